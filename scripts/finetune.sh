#!/usr/bin/env bash
# Fine-tune an encoder, aligned or not, on XNLI or on SQuAD for MLQA:
#
#   scripts/finetune.sh xnli|mlqa zero-shot|translate-train|code-switch DATA MODEL [fairseq-train flags]
#
# zero-shot        trains on English
# translate-train  trains on all languages with training data in DATA (LANGS=en,de,… selects some)
# code-switch      trains on the same languages, and mixes English into each example
# DATA             the folder that scripts/prepare_xnli.sh or scripts/prepare_mlqa.sh wrote
# MODEL            a checkpoint of the alignment, or for the baseline a folder of `ppa import-hf` or of Hugging Face
#
# The best checkpoint is runs/TASK-MODE/checkpoint_best.pt; SAVE_DIR=folder sets another folder, which each MODEL needs.
# To resume an interrupted training, repeat the command. The best checkpoint is the one with the highest accuracy on the
# development set: in English for zero-shot, else on average over the languages (--best-checkpoint-metric accuracy_en or
# accuracy_avg selects the other). Measure it with `ppa evaluate-xnli` or `ppa evaluate-qa`.
#
# Batches of 32, two epochs, the lengths and the peak rates (5e-5 for XNLI, 3e-5 for MLQA) and XNLI's 1,000 warm-up
# updates are the paper's values as we recall them, not checked against its text. For MLQA and in a shorter training, a
# tenth of the updates warms up.
set -euo pipefail
# shellcheck source=_training.sh
. "$(dirname "${BASH_SOURCE[0]}")/_training.sh"
case ${1-} in -h | --help) usage; exit ;; esac
[ $# -ge 4 ] || { usage >&2; exit 2; }
task=$1 mode=$2 data=$3 model=$4
shift 4

case $task in
  xnli)
    inputs=input0/train.idx most_warmup=1000
    flags=(--arch ppa_bert_classifier --criterion sentence_prediction --lr 5e-5 --batch-size-valid 64)
    data_flags=(--max-length 128)
    ;;
  mlqa)
    inputs=train.question.idx most_warmup=1000000
    flags=(--arch ppa_bert_reader --criterion span_prediction --lr 3e-5 --batch-size-valid 32)
    data_flags=()
    ;;
  *) fail "$task: unknown task; choose xnli or mlqa" ;;
esac
langs=${LANGS:-$(for index in "$data"/*/"$inputs"; do basename "${index%"/$inputs"}"; done | paste -sd,)}
metric=accuracy_avg
case $mode in
  zero-shot) langs=en metric=accuracy_en ;;
  translate-train) ;;
  code-switch) data_flags+=(--code-switch) ;;
  *) fail "$mode: unknown mode; choose zero-shot, translate-train or code-switch" ;;
esac

find_ranks
batches=("$data" "${plugin[@]}" --task "${task}_codeswitch" --train-langs "$langs" "${data_flags[@]}"
  --batch-size "$(share 32)")
updates=$(python "$root/scripts/count_updates.py" "${batches[@]}" --max-epoch 2 "$@")
warmup=$((updates / 10 < most_warmup ? updates / 10 : most_warmup))
train "${batches[@]}" "${recipe[@]}" "${flags[@]}" --pretrained "$model" --adam-eps 1e-8 \
  --lr-scheduler polynomial_decay --warmup-updates $warmup --total-num-update "$updates" --max-update "$updates" \
  --best-checkpoint-metric $metric --keep-interval-updates 1 --save-dir "${SAVE_DIR:-runs/$task-$mode}" "$@"
