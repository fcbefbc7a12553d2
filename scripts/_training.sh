# What align.sh and finetune.sh share. Source it with the script's own arguments.
# shellcheck shell=bash disable=SC2034

# Print the comment at the head of the script.
usage() { awk 'NR > 1 { if (!sub(/^# ?/, "")) exit; print }' "$0"; }
fail() {
  echo "$(basename "$0" .sh): error: $*" >&2
  exit 1
}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
plugin=(--user-dir "$root/ppa_fairseq")
recipe=(--optimizer fused_adamw --adam-betas '(0.9, 0.999)' --weight-decay 0.01 --clip-norm 1 --num-workers 2
  --maximize-best-checkpoint-metric --no-epoch-checkpoints --save-interval-updates 5000
  --log-format simple --log-interval 100)

# Sets $ranks (one for each GPU of this machine, else one), $memory (GiB of the smallest GPU, else 0) and $device: bf16
# where the GPUs have it.
find_ranks() {
  command -v fairseq-train > /dev/null ||
    fail "fairseq-train is not installed: run scripts/setup_env.sh, then . .venv/bin/activate"
  local gpus half
  read -r gpus half memory < <(python -c '
import torch
gpus = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
half = "bf16" if all(gpu.major >= 8 for gpu in gpus) else "fp16"
print(len(gpus), half, min((gpu.total_memory for gpu in gpus), default=0) >> 30)')
  ranks=$((gpus > 0 ? gpus : 1)) device=--$half
  if [ "$gpus" = 0 ]; then
    device=--cpu
    echo "$(basename "$0" .sh): training on the CPU: $(python -W ignore -c \
      'from ppa_fairseq.fairseq_compat.arguments import why_no_gpu; print(why_no_gpu())')" >&2
  fi
}
share() { echo $(($1 / ranks > 0 ? $1 / ranks : 1)); } # a rank's part of a batch

# fairseq-train on all ranks. TORCHRUN has the flags for several machines: --nnodes, --node_rank, --master_addr.
train() {
  if [ "$ranks" = 1 ] && [ -z "${TORCHRUN:-}" ]; then
    exec fairseq-train "$@" "$device"
  fi
  # shellcheck disable=SC2086
  exec torchrun ${TORCHRUN:---standalone} --nproc_per_node "$ranks" -m fairseq_cli.train "$@" "$device"
}
