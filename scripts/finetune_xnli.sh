#!/usr/bin/env bash
# Natural language inference on an encoder, aligned or not:
#
#   scripts/finetune_xnli.sh zero-shot|translate-train|code-switch DATA_BIN PRETRAINED [fairseq-train arguments]
#
# zero-shot trains on English, translate-train on all languages that DATA_BIN has training data in (LANGS=en,fr,…
# takes fewer), code-switch also on examples half of which is English. DATA_BIN is what scripts/prepare_xnli.sh made,
# PRETRAINED a checkpoint of the alignment or, for the baseline, what `ppa import-hf` wrote. The classifier ends in
# runs/xnli-MODE/checkpoint_best.pt (SAVE_DIR=… elsewhere), chosen on English dev in zero-shot and on the mean over
# languages otherwise; say --best-checkpoint-metric accuracy_en (or accuracy_avg) for the other. Measure it with
# `ppa evaluate-xnli`, take it away with `ppa export-hf`. The same command again goes on where an interrupted one stopped;
# with another PRETRAINED it needs another SAVE_DIR. Of added arguments, --batch-size, --train-langs and the code-switching
# flags change the number of updates: give --max-update and --total-num-update with them.
#
# Batch 32, length 128, 2 epochs, peak 5e-5 and 1,000 warm-up updates are the paper's values as we recall them, not
# checked against its text; they are for MultiNLI's 392,702 examples. Of few updates, a tenth warms up.
set -euo pipefail
usage() { awk 'NR > 1 { if (!sub(/^# ?/, "")) exit; print }' "$0"; }
case ${1-} in -h | --help) usage; exit ;; esac
[ $# -ge 3 ] || { usage >&2; exit 2; }
mode=$1 data=$2 pretrained=$3
shift 3

langs=${LANGS:-$(for idx in "$data"/*/input0/train.idx; do basename "${idx%/input0/train.idx}"; done | paste -sd,)}
flags=()
case $mode in
  zero-shot) langs=en metric=accuracy_en ;;
  translate-train) metric=accuracy_avg ;;
  code-switch) metric=accuracy_avg flags=(--code-switch) ;;
  *) echo "finetune_xnli: error: unknown mode '$mode': zero-shot, translate-train or code-switch" >&2; exit 2 ;;
esac

root=$(dirname "${BASH_SOURCE[0]}")/..

# 32 examples an update over this machine's GPUs (a few less where their number does not divide it).
gpus=$(python -c 'import torch; print(torch.cuda.device_count())')
ranks=$((gpus > 0 ? gpus : 1)) epochs=2
per_rank=$((32 / ranks))
precision=$([ "$gpus" -gt 0 ] && echo --fp16 || echo --cpu)
updates=$(python "$root/scripts/count_finetuning_updates.py" xnli_codeswitch "$data" --train-langs "$langs" "${flags[@]}" \
  --batch-size $per_rank --ranks $ranks --epochs $epochs)
warmup=$((updates / 10 < 1000 ? updates / 10 : 1000))

exec ppa launch -- "$data" --user-dir "$root/ppa_fairseq" --task xnli_codeswitch $precision \
  --train-langs "$langs" "${flags[@]}" --max-length 128 \
  --arch ppa_bert_classifier --pretrained "$pretrained" --criterion sentence_prediction \
  --optimizer fused_adamw --adam-betas '(0.9, 0.999)' --adam-eps 1e-8 --weight-decay 0.01 --clip-norm 1 \
  --lr 5e-5 --lr-scheduler polynomial_decay --warmup-updates $warmup --total-num-update "$updates" \
  --batch-size $per_rank --max-update "$updates" --num-workers 2 \
  --best-checkpoint-metric $metric --maximize-best-checkpoint-metric --batch-size-valid 64 \
  --save-dir "${SAVE_DIR:-runs/xnli-$mode}" --no-epoch-checkpoints \
  --save-interval-updates 5000 --keep-interval-updates 1 --log-format simple --log-interval 100 "$@"
