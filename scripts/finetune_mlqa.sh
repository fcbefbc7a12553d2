#!/usr/bin/env bash
# Extractive question answering on an encoder, aligned or not:
#
#   scripts/finetune_mlqa.sh zero-shot|translate-train|code-switch DATA_BIN PRETRAINED [fairseq-train arguments]
#
# zero-shot trains on English, translate-train on all languages that DATA_BIN has training data in (LANGS=en,de,…
# takes fewer), code-switch also on questions and contexts of which one is English. DATA_BIN is what
# scripts/prepare_mlqa.sh made, PRETRAINED a checkpoint of the alignment or, for the baseline, what `ppa import-hf`
# wrote. The reader ends in runs/mlqa-MODE/checkpoint_best.pt (SAVE_DIR=… elsewhere), chosen by the share of windows
# whose answer is exactly right: on English dev in zero-shot, else on the mean over languages. F1 and exact match, over
# all language pairs: `ppa evaluate-qa`. The same command again goes on where an interrupted one stopped; with another
# PRETRAINED it needs another SAVE_DIR. Of added arguments, those that change the number of updates need --max-update and
# --total-num-update with them.
#
# Peak 3e-5 and windows of 384 (the data's) are the paper's values as we recall them, not checked against its text;
# batch 32, 2 epochs and a tenth of warm-up are ours.
set -euo pipefail
usage() { awk 'NR > 1 { if (!sub(/^# ?/, "")) exit; print }' "$0"; }
case ${1-} in -h | --help) usage; exit ;; esac
[ $# -ge 3 ] || { usage >&2; exit 2; }
mode=$1 data=$2 pretrained=$3
shift 3

langs=${LANGS:-$(for idx in "$data"/*/train.question.idx; do basename "${idx%/train.question.idx}"; done | paste -sd,)}
flags=()
case $mode in
  zero-shot) langs=en metric=accuracy_en ;;
  translate-train) metric=accuracy_avg ;;
  code-switch) metric=accuracy_avg flags=(--code-switch) ;;
  *) echo "finetune_mlqa: error: unknown mode '$mode': zero-shot, translate-train or code-switch" >&2; exit 2 ;;
esac

root=$(dirname "${BASH_SOURCE[0]}")/..

# 32 windows an update over this machine's GPUs (a few less where their number does not divide it).
gpus=$(python -c 'import torch; print(torch.cuda.device_count())')
ranks=$((gpus > 0 ? gpus : 1)) epochs=2
per_rank=$((32 / ranks))
precision=$([ "$gpus" -gt 0 ] && echo --fp16 || echo --cpu)
updates=$(python "$root/scripts/count_finetuning_updates.py" mlqa_codeswitch "$data" --train-langs "$langs" "${flags[@]}" \
  --batch-size $per_rank --ranks $ranks --epochs $epochs)

exec ppa launch -- "$data" --user-dir "$root/ppa_fairseq" --task mlqa_codeswitch $precision \
  --train-langs "$langs" "${flags[@]}" \
  --arch ppa_bert_reader --pretrained "$pretrained" --criterion span_prediction \
  --optimizer fused_adamw --adam-betas '(0.9, 0.999)' --adam-eps 1e-8 --weight-decay 0.01 --clip-norm 1 \
  --lr 3e-5 --lr-scheduler polynomial_decay --warmup-updates $((updates / 10)) --total-num-update "$updates" \
  --batch-size $per_rank --max-update "$updates" --num-workers 2 \
  --best-checkpoint-metric $metric --maximize-best-checkpoint-metric --batch-size-valid 32 \
  --save-dir "${SAVE_DIR:-runs/mlqa-$mode}" --no-epoch-checkpoints \
  --save-interval-updates 5000 --keep-interval-updates 1 --log-format simple --log-interval 100 "$@"
