#!/usr/bin/env bash
# Fine-tune an encoder, aligned or not: on XNLI, on SQuAD for MLQA, to classify other sentences or pairs, to tag words:
#
#   scripts/finetune.sh TASK zero-shot|translate-train|code-switch DATA MODEL [fairseq-train flags]
#
# TASK             xnli, mlqa, classification or tagging
#
# zero-shot        trains on English
# translate-train  trains on all languages with training data in DATA (LANGS=en,de,… selects some)
# code-switch      trains on the same languages, and mixes English into each example of two parts
# DATA             the folder that scripts/prepare_xnli.sh, scripts/prepare_mlqa.sh or `ppa binarize` wrote
# MODEL            a checkpoint of the alignment, or for the baseline a folder of `ppa import-hf` or of Hugging Face
#
# The best checkpoint is runs/TASK-MODE/checkpoint_best.pt; SAVE_DIR=folder sets another folder, which each MODEL needs.
# To resume an interrupted training, repeat the command. The best checkpoint is the one with the highest accuracy on the
# development set: in English for zero-shot, else on average over the languages (--best-checkpoint-metric accuracy_en or
# accuracy_avg selects the other). Measure it with `ppa evaluate-xnli`, `evaluate-qa`, `evaluate-classification` or
# `evaluate-tagging`.
#
# Batches of 32, two epochs, the lengths and the peak rates (5e-5 for XNLI, 3e-5 for MLQA) and XNLI's 1,000 warm-up
# updates are the paper's values as we recall them, not checked against its text; 2e-5, and 5 and 10 epochs, for
# classification and tagging are XTREME's for PAWS-X and for parts of speech, likewise. A set of a few hundred sentences
# needs more (--max-epoch 20 --lr 5e-5). In a shorter training and for all but XNLI, a tenth of the updates warms up.
set -euo pipefail
# shellcheck source=_training.sh
. "$(dirname "${BASH_SOURCE[0]}")/_training.sh"
case ${1-} in -h | --help) usage; exit ;; esac
[ $# -ge 4 ] || { usage >&2; exit 2; }
task=$1 mode=$2 data=$3 model=$4
shift 4
epochs=2 most_warmup=1000000

case $task in
  xnli)
    name=xnli_codeswitch inputs=input0/train.idx most_warmup=1000
    flags=(--arch ppa_bert_classifier --criterion sentence_prediction --lr 5e-5 --batch-size-valid 64)
    data_flags=(--max-length 128)
    ;;
  mlqa)
    name=mlqa_codeswitch inputs=train.question.idx
    flags=(--arch ppa_bert_reader --criterion span_prediction --lr 3e-5 --batch-size-valid 32)
    data_flags=()
    ;;
  classification)
    name=ppa_classification inputs=input0/train.idx epochs=5
    flags=(--arch ppa_bert_classifier --criterion sentence_prediction --lr 2e-5 --batch-size-valid 64)
    data_flags=()
    ;;
  tagging)
    name=ppa_tagging inputs=input0/train.idx epochs=10
    flags=(--arch ppa_bert_tagger --criterion tag_prediction --lr 2e-5 --batch-size-valid 64)
    data_flags=()
    ;;
  *) fail "$task: unknown task; choose xnli, mlqa, classification or tagging" ;;
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
batches=("$data" "${plugin[@]}" --task "$name" --train-langs "$langs" "${data_flags[@]}"
  --batch-size "$(share 32)")
updates=$(python "$root/scripts/count_updates.py" "${batches[@]}" --max-epoch $epochs "$@")
warmup=$((updates / 10 < most_warmup ? updates / 10 : most_warmup))
train "${batches[@]}" "${recipe[@]}" "${flags[@]}" --pretrained "$model" --adam-eps 1e-8 \
  --lr-scheduler polynomial_decay --warmup-updates $warmup --total-num-update "$updates" --max-update "$updates" \
  --best-checkpoint-metric $metric --keep-interval-updates 1 --save-dir "${SAVE_DIR:-runs/$task-$mode}" "$@"
