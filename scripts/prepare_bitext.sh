#!/usr/bin/env bash
# From raw parallel text to data-bin:  scripts/prepare_bitext.sh IMPORTED RAW DATA_BIN [prepare-bitext flags]
#
# Takes every language pair in the folder RAW: [NAME.]de-en.tsv (de, a tab, en; as scripts/get_opus.sh writes it), or
# [NAME.]de-en.de with [NAME.]de-en.en beside it; each plain, .gz or .xz, several of one pair together. IMPORTED is what
# `ppa import-hf` wrote, or a Hugging Face folder. The filtered WordPieces stay in DATA_BIN.text. Flags, e.g.
# --max-train 250000 --shards 4, are those of `ppa prepare-bitext`. Of the two steps the second is, for each pair, what
# this would do:
#
#   fairseq-preprocess --user-dir ppa_fairseq --task ppa_alignment -s de -t en --destdir DATA_BIN \
#     --trainpref DATA_BIN.text/train.de-en --validpref DATA_BIN.text/valid.de-en \
#     --srcdict IMPORTED/dict.txt --tgtdict IMPORTED/dict.txt
set -euo pipefail
usage() { awk 'NR > 1 { if (!sub(/^# ?/, "")) exit; print }' "$0"; }
case ${1-} in -h | --help) usage; exit ;; esac
fail() {
  echo "prepare_bitext: error: $*" >&2
  exit 1
}
[ $# -ge 3 ] || { usage >&2; exit 2; }
imported=$1 raw=$2 data=${3%/}
shift 3
[ -d "$raw" ] || fail "$raw: no such folder; scripts/get_opus.sh fills one"
command -v ppa > /dev/null || fail "ppa is not installed: run scripts/setup_env.sh, then . .venv/bin/activate"

declare -A files=()
for file in "$raw"/*; do
  name=${file%.gz} name=${name%.xz} name=${name##*/}
  [[ $name =~ (^|\.)([A-Za-z0-9_]+)-([A-Za-z0-9_]+)\.([A-Za-z0-9_]+)$ ]] || continue
  first=${BASH_REMATCH[2]} second=${BASH_REMATCH[3]} ending=${BASH_REMATCH[4]} pair=$first-$second
  if [ "$ending" = tsv ]; then
    files[$pair]+=,$file
  elif [ "$ending" = "$first" ]; then
    partner=
    for packed in "" .gz .xz; do
      [ ! -e "$raw/${name%."$first"}.$second$packed" ] || partner=$raw/${name%."$first"}.$second$packed
    done
    [ "$partner" ] || fail "$file: no $pair.$second beside it"
    files[$pair]+=,$file,$partner
  fi
done
[ ${#files[@]} -gt 0 ] || fail "$raw: no file named like de-en.tsv or de-en.de, plain, .gz or .xz"
pairs=()
while read -r pair; do pairs+=("$pair=${files[$pair]#,}"); done < <(printf '%s\n' "${!files[@]}" | sort)

ppa prepare-bitext --tokenizer "$imported" --out "$data.text" "$@" "${pairs[@]}"
ppa binarize "$data.text" --destdir "$data"
