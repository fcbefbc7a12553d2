#!/usr/bin/env bash
# The paper's parallel corpora:  scripts/get_opus.sh [--pairs N] [--dry-run] OUT [LANGUAGE ...]
#
# Writes OUT/xx-en.tsv.gz (xx, a tab, English), which scripts/prepare_bitext.sh takes: the first N pairs (default 250000,
# the smallest of the paper's settings; the others are 600000 and 2000000) of Europarl (de el es fr bg, with EUbookshop
# if bg needs more), MultiUN (ar zh) and IIT Bombay (hi). Without LANGUAGE, takes all of these. Keeps files that exist.
# --dry-run prints the commands. Needs mtdata 0.5.1 (pip install mtdata==0.5.1), which keeps its downloads in $MTDATA
# (default ~/.mtdata).
set -euo pipefail

# mtdata's names; the first language of a name is in the first column.
corpora() {
  case $1 in
    ar) echo OPUS-multiun-v1-ara-eng ;;
    bg) echo OPUS-europarl-v8-bul-eng OPUS-eubookshop-v2-bul-eng ;;
    de) echo OPUS-europarl-v8-deu-eng ;;
    el) echo OPUS-europarl-v8-ell-eng ;;
    es) echo OPUS-europarl-v8-eng-spa ;;
    fr) echo OPUS-europarl-v8-eng-fra ;;
    hi) echo OPUS-iitb-v2.0-eng-hin ;;
    zh) echo OPUS-multiun-v1-eng-zho ;;
    *) fail "$1: no corpus for this language; choose from ${all[*]}" ;;
  esac
}

# The command that prints the first $2 pairs of corpus $1. It reads the corpus to its end, so that no broken pipe
# hides a failed download.
command_for() {
  local columns='$1, $2'
  case $1 in *-eng-???) columns='$2, $1' ;; esac
  echo "mtdata echo $1 | awk -F'\t' -v OFS='\t' 'NR <= $2 { print $columns }'"
}

fail() {
  echo "get_opus: error: $*" >&2
  exit 1
}

get() { # LANGUAGE CORPUS...
  local file=$out/$1-en.tsv count=0
  shift
  part=$(mktemp "$file.XXXXXX")
  trap 'rm -f "$part" "$part.gz"' EXIT
  for corpus in "$@"; do
    bash -o pipefail -c "$(command_for "$corpus" $((pairs - count)))" >> "$part" ||
      fail "$corpus: the download failed; see the message of mtdata above"
    count=$(wc -l < "$part")
    [ "$count" -lt "$pairs" ] || break
  done
  [ "$count" -gt 0 ] || fail "$*: no pairs"
  gzip -n < "$part" > "$part.gz"
  mv "$part.gz" "$file.gz"
  rm -f "$part"
  echo "$file.gz: $count pairs"
}

all=(ar bg de el es fr hi zh)
pairs=250000 dry_run='' arguments=()
while [ $# -gt 0 ]; do
  case $1 in
    --pairs) [ $# -gt 1 ] || fail "--pairs takes a number"; pairs=$2; shift ;;
    --dry-run) dry_run=yes ;;
    -h | --help) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit ;;
    -*) fail "unknown option $1; see --help" ;;
    *) arguments+=("$1") ;;
  esac
  shift
done
[[ $pairs =~ ^[1-9][0-9]*$ ]] || fail "--pairs takes a number of pairs above 0, not '$pairs'"
[ ${#arguments[@]} -gt 0 ] || fail "name the folder to write; see --help"
out=${arguments[0]}
languages=("${arguments[@]:1}")
[ ${#languages[@]} -gt 0 ] || languages=("${all[@]}")
for language in "${languages[@]}"; do corpora "$language" > /dev/null; done
[ "$dry_run" ] || command -v mtdata > /dev/null || fail "mtdata is not installed: pip install mtdata==0.5.1"

[ "$dry_run" ] || mkdir -p "$out"
for language in "${languages[@]}"; do
  read -ra names <<< "$(corpora "$language")"
  if [ "$dry_run" ]; then
    for name in "${names[@]}"; do command_for "$name" "$pairs"; done
  elif [ -e "$out/$language-en.tsv.gz" ]; then
    echo "$out/$language-en.tsv.gz: exists, kept"
  else
    get "$language" "${names[@]}"
  fi
done
