#!/usr/bin/env bash
# The alignment of mBERT as in the paper:
#
#   scripts/align.sh 250k|600k|2M DATA_BIN IMPORTED [fairseq-train arguments]
#
# DATA_BIN is what scripts/prepare_bitext.sh made (colons between shards), IMPORTED what `ppa import-hf` wrote for
# bert-base-multilingual-cased, or its Hugging Face folder. One process a GPU, in fp16 (without one: the CPU). 128 pairs
# an update, spread over this machine's GPUs: on M machines (see README) add --batch-size, a share of it. The query
# encoder ends in runs/align-SETTING/checkpoint_best.pt (SAVE_DIR=… elsewhere). The values are the paper's as we recall
# them, not checked against its text; Adam's betas and epsilon and the clipping are ours. The same recipe for hydra:
# scripts/recipes/ppa_mbert.yaml.
set -euo pipefail
usage() { awk 'NR > 1 { if (!sub(/^# ?/, "")) exit; print }' "$0"; }
case ${1-} in -h | --help) usage; exit ;; esac
[ $# -ge 3 ] || { usage >&2; exit 2; }
setting=$1 data=$2 imported=$3
shift 3

# Pairs a language, and epochs (the paper stops earlier on the largest).
case $setting in
  250k) epochs=10 ;;
  600k) epochs=10 ;;
  2M) epochs=5 ;;
  *) echo "align: error: unknown setting '$setting': 250k, 600k or 2M" >&2; exit 2 ;;
esac

root=$(dirname "${BASH_SOURCE[0]}")/..

# 128 pairs an update over this machine's GPUs (a few less where their number does not divide it); a tenth warms up.
gpus=$(python -c 'import torch; print(torch.cuda.device_count())')
ranks=$((gpus > 0 ? gpus : 1))
per_rank=$((128 / ranks))
precision=$([ "$gpus" -gt 0 ] && echo --fp16 || echo --cpu)
updates=$(python "$root/scripts/count_updates.py" "$data" --pairs-per-update $((per_rank * ranks)) --epochs $epochs)

exec ppa launch -- "$data" --user-dir "$root/ppa_fairseq" --task ppa_alignment $precision \
  --arch ppa_bert --pretrained "$imported" --pooling cls --momentum 0.999 --queue-size 32000 \
  --criterion ppa --temperature 0.05 \
  --optimizer fused_adamw --adam-betas '(0.9, 0.999)' --adam-eps 1e-6 --weight-decay 0.01 --clip-norm 1 \
  --lr 3e-5 --lr-scheduler polynomial_decay --warmup-updates $((updates / 10)) --total-num-update "$updates" \
  --batch-size $per_rank --max-update "$updates" --num-workers 2 \
  --best-checkpoint-metric retrieval --maximize-best-checkpoint-metric \
  --save-dir "${SAVE_DIR:-runs/align-$setting}" --no-epoch-checkpoints \
  --save-interval-updates 5000 --keep-interval-updates 2 --log-format simple --log-interval 100 "$@"
