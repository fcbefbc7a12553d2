#!/usr/bin/env bash
# Install what the tests need, then run ruff, import-linter and pytest:  scripts/test.sh [pytest arguments]
#
# PPA_TEST_DATA names a folder of large test data; without it, the tests that need them are skipped.
set -euo pipefail
case ${1-} in -h | --help) awk 'NR > 1 { if (!sub(/^# ?/, "")) exit; print }' "$0"; exit ;; esac
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scripts/setup_env.sh test
. "${PPA_VENV:-.venv}/bin/activate"

# Two pytest workers with one thread each: on a small machine, more threads slow each other down.
export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1

echo "ruff check"
ruff check ppa_fairseq scripts experiments tools benchmarks tests setup.py
echo "lint-imports"
lint-imports --no-cache
echo "pytest"
python -m pytest -n 2 --dist worksteal --durations 10 --disable-warnings -rsfE "${@:-tests}"
