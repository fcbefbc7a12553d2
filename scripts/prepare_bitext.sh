#!/usr/bin/env bash
# From raw parallel text to data-bin:  scripts/prepare_bitext.sh IMPORTED RAW DATA_BIN [prepare-bitext flags]
#
# Takes every language pair in the folder RAW, under the names that scripts/get_opus.sh, OPUS, WMT and
# sentence-transformers use, and lists the files that it does not take: see `ppa prepare-bitext --help`. IMPORTED is
# what `ppa import-hf` wrote, or a Hugging Face folder. The filtered tokens stay in DATA_BIN.text. Flags, e.g.
# --max-train 250000 --shards 4, are those of `ppa prepare-bitext`.
set -euo pipefail
usage() { sed -n '2,/^set /s/^# \{0,1\}//p' "$0"; }
case ${1-} in -h | --help) usage; exit ;; esac
[ $# -ge 3 ] || { usage >&2; exit 2; }
imported=$1 raw=$2 data=${3%/}
shift 3
fail() { echo "prepare_bitext: error: $*" >&2; exit 1; }
[ -d "$raw" ] || fail "$raw: no such folder; fill one with scripts/get_opus.sh"
command -v ppa > /dev/null || fail "ppa is not installed: run scripts/setup_env.sh, then . .venv/bin/activate"

ppa prepare-bitext "$raw" --tokenizer "$imported" --out "$data.text" "$@"
ppa binarize "$data.text" --destdir "$data"
