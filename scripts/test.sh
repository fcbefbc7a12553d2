#!/usr/bin/env bash
# Set-up, then the tests:  scripts/test.sh [pytest arguments]
set -euo pipefail
case ${1-} in -h | --help) sed -n '2s/^# //p' "$0"; exit ;; esac
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scripts/setup_env.sh test
. "${PPA_VENV:-.venv}/bin/activate"

# Two pytest workers of one thread each: more threads only fight over the cores of a small machine.
export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1

echo "ruff check"
ruff check ppa_fairseq scripts benchmarks tests setup.py
echo "pytest"
python -m pytest -n 2 --dist loadfile --durations 10 --disable-warnings -rsfE "${@:-tests}"
