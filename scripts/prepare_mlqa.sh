#!/usr/bin/env bash
# Prepare SQuAD, its translations and MLQA for fine-tuning:  scripts/prepare_mlqa.sh IMPORTED RAW DEST [flags]
#
# Takes these files from the folder RAW and the folders in it, by their published names; plain, .gz, .xz, .bz2 or .zst:
#
#   train  train-v1.1.json                             SQuAD 1.1: English
#          XX_squad-translate-train-train-v1.1.json    MLQA's translations of it
#          squad.translate.train.en-XX.json            XTREME's translations of it; give one of the two, not both
#   valid  dev-context-XX-question-XX.json             MLQA_V1/dev
#
# `ppa evaluate-qa` reads MLQA_V1/test itself. IMPORTED is the folder that `ppa import-hf` wrote, or a Hugging Face
# folder. Flags are those of `ppa prepare-qa`; --train and --valid add files, for example without SQuAD:
#
#   scripts/prepare_mlqa.sh IMPORTED MLQA_V1 DEST --train en=tydiqa.goldp.en.train.json
set -euo pipefail
usage() { awk 'NR > 1 { if (!sub(/^# ?/, "")) exit; print }' "$0"; }
case ${1-} in -h | --help) usage; exit ;; esac
fail() {
  echo "prepare_mlqa: error: $*" >&2
  exit 1
}
[ $# -ge 3 ] || { usage >&2; exit 2; }
imported=$1 raw=$2 data=$3
shift 3
[ -d "$raw" ] || fail "$raw: no such folder; unpack train-v1.1.json, MLQA_V1.zip and the translations into it"
command -v ppa > /dev/null || fail "ppa is not installed: run scripts/setup_env.sh, then . .venv/bin/activate"

train=() valid=()
while IFS= read -r file; do
  name=${file%.gz} name=${name%.xz} name=${name##*/}
  if [ "$name" = train-v1.1.json ]; then
    train+=("en=$file")
  elif [[ $name =~ ^([a-z]+)_squad-translate-train-train-v1\.1\.json$ ]]; then
    train+=("${BASH_REMATCH[1]}=$file")
  elif [[ $name =~ ^squad\.translate\.train\.en-([a-z]+)\.json$ ]]; then
    train+=("${BASH_REMATCH[1]}=$file")
  elif [[ $name =~ ^dev-context-([a-z]+)-question-([a-z]+)\.json$ && ${BASH_REMATCH[1]} = "${BASH_REMATCH[2]}" ]]
  then
    valid+=("${BASH_REMATCH[1]}=$file")
  fi
done < <(find -L "$raw" -type f | LC_ALL=C sort)
[ $((${#train[@]} + ${#valid[@]})) -gt 0 ] || fail "$raw: none of the files that this script's head names"

ppa prepare-qa --tokenizer "$imported" --out "$data" ${train:+--train "${train[@]}"} ${valid:+--valid "${valid[@]}"} "$@"
