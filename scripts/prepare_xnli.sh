#!/usr/bin/env bash
# Prepare published NLI for fine-tuning:  scripts/prepare_xnli.sh IMPORTED XNLI [TRAIN] DATA_BIN [prepare-xnli flags]
#
# IMPORTED  folder that `ppa import-hf` wrote, or a Hugging Face folder
# XNLI      validation and test data: the folder XNLI-1.0 (xnli.dev.tsv, xnli.test.tsv), or one with dev-fr.tsv,
#           test-fr.tsv, dev-de.tsv ...; .tsv or .jsonl, plain, .gz, .xz, .bz2 or .zst. One of the two splits is enough.
# TRAIN     training data: the folder XNLI-MT-1.0 (multinli/multinli.train.fr.tsv ...: translate-train), MultiNLI's
#           multinli_1.0 (multinli_1.0_train.txt), or one with train-fr.tsv ...; a file whose name has no language is
#           English. If no name has the word train, all .tsv and .jsonl of the folder are English training data.
#           Leave TRAIN out to evaluate only.
#
# The tokens stay as text in DATA_BIN.text. Flags are those of `ppa prepare-xnli`, e.g. --langs en,de,fr. `ppa binarize`
# then does for each language what fairseq-preprocess would do.
set -euo pipefail
usage() { awk 'NR > 1 { if (!sub(/^# ?/, "")) exit; print }' "$0"; }
case ${1-} in -h | --help) usage; exit ;; esac
shopt -s nullglob
fail() {
  echo "prepare_xnli: error: $*" >&2
  exit 1
}
folders=()
while [ $# -gt 0 ] && [[ $1 != -* ]]; do
  folders+=("$1")
  shift
done
[ ${#folders[@]} -eq 3 ] || [ ${#folders[@]} -eq 4 ] || { usage >&2; exit 2; }
imported=${folders[0]} xnli=${folders[1]%/} data=${folders[-1]%/}
for folder in "${folders[@]:1:${#folders[@]}-2}"; do [ -d "$folder" ] || fail "$folder: no such folder"; done
command -v ppa > /dev/null || fail "ppa is not installed: run scripts/setup_env.sh, then . .venv/bin/activate"

# List the files in folder $1 whose names have one of the words $2 (a|b); of xnli.dev.tsv and xnli.dev.jsonl, the first.
named() {
  local ending file name
  local -A seen=()
  for ending in tsv txt jsonl json; do
    for file in "$1"/*."$ending" "$1"/*."$ending".gz "$1"/*."$ending".xz; do
      name=${file##*/} name=${name%%."$ending"*}
      [[ $name =~ (^|[._-])($2)($|[._-]) && -z ${seen[$name]-} ]] || continue
      seen[$name]=1
      echo "$file"
    done
  done
}

arguments=()
for split in "valid dev|valid|validation" "test test"; do
  mapfile -t files < <(named "$xnli" "${split#* }")
  [ ${#files[@]} -eq 0 ] || arguments+=("--${split%% *}" "${files[@]}")
done
[ ${#arguments[@]} -gt 0 ] || fail "$xnli: no file named like xnli.dev.tsv or dev-fr.tsv, nor with test"
if [ ${#folders[@]} -eq 4 ]; then
  train=${folders[2]%/}
  [ ! -d "$train/multinli" ] || train=$train/multinli
  mapfile -t files < <(named "$train" train)
  [ ${#files[@]} -gt 0 ] || files=("$train")
  arguments+=(--train)
  language='([a-z]{2}|[a-z]{2,3}[-_]([A-Z]{2}|[A-Z][a-z]{3}))'
  for file in "${files[@]}"; do
    [[ -f $file && $file =~ [._-]$language\.(tsv|txt|jsonl|json)(\.gz|\.xz)?$ ]] || file=en=$file
    arguments+=("$file")
  done
fi

ppa prepare-xnli --tokenizer "$imported" --out "$data.text" "${arguments[@]}" "$@"
ppa binarize "$data.text" --destdir "$data"
