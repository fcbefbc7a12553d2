#!/usr/bin/env bash
# Align an encoder:
#
#   scripts/align.sh [--recipe paper] 250k|600k|2M DATA BASE [fairseq-train flags]
#
# SETTING  pairs of each language in the paper's experiments; it sets the number of epochs
# DATA     the folder that scripts/prepare_bitext.sh wrote (shards: several, with colons between them)
# BASE     the encoder: a folder of `ppa import-hf`, or a Hugging Face folder
#
# The recipe is momentum contrast of mean vectors without a projection head and without TLM, which did best in
# docs/results.md. --recipe paper is the paper's: [CLS], a projection head, TLM. --tlm-weight 1 adds TLM to ours; without
# it, the MLM head no longer fits the aligned encoder.
#
# The aligned encoder is runs/align-SETTING/checkpoint_best.pt, or runs/paper-SETTING/checkpoint_best.pt; SAVE_DIR=folder
# sets another folder. To resume an interrupted training, repeat the command.
#
# It trains on all GPUs of this machine, in bf16 where they have it, else in fp16; or on the CPU. 128 pairs an update are
# spread over the GPUs, in our recipe 512 if each has 40 GiB. On M machines, set TORCHRUN='--nnodes M --node_rank I
# --master_addr HOST' and give --batch-size (128 or 512 divided by all GPUs).
#
# The paper's values are as we recall them, not checked against its text. Adam's betas and epsilon and the gradient
# clipping are ours. scripts/recipes/ppa_mbert.yaml is the paper's recipe for fairseq-hydra-train.
set -euo pipefail
# shellcheck source=_training.sh
. "$(dirname "${BASH_SOURCE[0]}")/_training.sh"
case ${1-} in -h | --help) usage; exit ;; esac
objective=(--pooling mean --projection-head none --tlm-weight 0 --momentum 0.99 --queue-size 4096 --lr 1e-4)
name=align
if [ "${1-}" = --recipe ]; then
  [ "${2-}" = paper ] || fail "--recipe ${2-}: unknown recipe; choose paper, or omit it for ours"
  objective=(--pooling cls --momentum 0.999 --queue-size 32000 --lr 3e-5)
  name=paper
  shift 2
fi
[ $# -ge 3 ] || { usage >&2; exit 2; }
setting=$1 data=$2 base=$3
shift 3
case $setting in
  250k | 600k) epochs=10 ;;
  2M) epochs=5 ;; # the paper stops earlier on the largest
  *) fail "$setting: unknown setting; choose 250k, 600k or 2M" ;;
esac

find_ranks
pairs=128
if [ "$name" = align ] && [ "$memory" -ge 40 ]; then pairs=512; fi # fewer keep such a GPU waiting
batches=("$data" "${plugin[@]}" --task ppa_alignment --batch-size "$(share $pairs)")
updates=$(python "$root/scripts/count_updates.py" "${batches[@]}" --max-epoch "$epochs" "$@")
train "${batches[@]}" "${recipe[@]}" --arch ppa_bert --pretrained "$base" --criterion ppa "${objective[@]}" \
  --temperature 0.05 --adam-eps 1e-6 --lr-scheduler polynomial_decay \
  --warmup-updates $((updates / 10)) --total-num-update "$updates" --max-update "$updates" \
  --best-checkpoint-metric retrieval --keep-interval-updates 2 --save-dir "${SAVE_DIR:-runs/$name-$setting}" "$@"
