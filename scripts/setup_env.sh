#!/usr/bin/env bash
# Make .venv with pinned packages:  scripts/setup_env.sh [test]     (`test` adds what the tests need)
#
# You may repeat the command: it keeps a finished .venv and replaces an interrupted one. It uses uv if that is
# installed, else pip. PYTHON=/path/to/python3 selects the interpreter, PPA_VENV=folder another place than .venv.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

packages=${1:-base}
venv=${PPA_VENV:-.venv}
state=$venv/ppa-state # "installing", or "KEY base|test", written last; KEY is a hash of the inputs

say() { echo "setup: $*" >&2; }
die() { say "error: $*"; exit 1; }

case $packages in
  base | test) ;;
  -h | --help) sed -n '2,5s/^# \{0,1\}//p' scripts/setup_env.sh; exit ;;
  *) die "unknown set '$packages'; choose base or test" ;;
esac

# A hash of what the environment depends on: the pins, the interpreter, this folder (the install is editable).
key_of() {
  "$1" - setup.py constraints.txt requirements-fairseq.txt scripts/setup_env.sh <<'PY'
import hashlib, os, sys
inputs = b"".join(open(path, "rb").read() for path in sys.argv[1:])
print(hashlib.sha256(inputs + sys.version.encode() + os.getcwd().encode()).hexdigest()[:16])
PY
}

upstream_is_in_the_way() {
  "$venv/bin/python" -c 'from importlib.metadata import distribution; distribution("fairseq")' 2>/dev/null
}

found=none
if [ -e "$venv" ]; then
  found=$(cat "$state" 2>/dev/null) || die "$venv exists, but this script did not make it; move it or set PPA_VENV"
  if [ "$found" != installing ] && upstream_is_in_the_way; then
    die "upstream 'fairseq' is installed in $venv and overwrites the fairseq that we use;" \
      "run: rm -r $venv && scripts/setup_env.sh"
  fi
  key=$(key_of "$venv/bin/python" 2>/dev/null) || key=none
  if [ "$found" = "$key test" ] || [ "$found" = "$key $packages" ]; then exit 0; fi
fi

has_wheel='import sys, platform as p
sys.exit(not (sys.version_info[:2] in ((3, 11), (3, 12)) and (p.system(), p.machine()) == ("Linux", "x86_64")))'
is_new_enough='import sys, ssl; sys.exit(sys.version_info < (3, 10))'

# Find the first Python for which fairseq has a wheel, else the first that can compile it. If it is that of an active
# environment, which may be the one to replace, take the Python below it.
find_python() {
  local test name
  for test in "$has_wheel" "$is_new_enough"; do
    for name in ${PYTHON:-python3 python3.12 python3.11 python3.13 python3.10 python}; do
      if "$name" -c "$test" >/dev/null 2>&1; then "$name" -c 'import sys; print(sys._base_executable)' && return; fi
    done
  done
  return 1
}

# uv does not read pip's settings (environment or pip.conf). Pass pip's index, wheel folders and certificate to uv
# unless uv has its own.
pip_setting() { # NAME: prints its value in one line; pip's [install] section comes before [global]
  local variable=PIP_${1^^}
  variable=${variable//-/_}
  if [ -n "${!variable:-}" ]; then
    echo ${!variable}
  else
    "$python" -m pip config list 2>/dev/null | "$python" -c '
import ast, sys
lines = dict(line.strip().split("=", 1) for line in sys.stdin if "=" in line)
value = lines.get(f"install.{sys.argv[1]}") or lines.get(f"global.{sys.argv[1]}")
print(*ast.literal_eval(value).split() if value else "")' "$1"
  fi
}

pass_pip_settings_to_uv() {
  local index extra links cert
  index=$(pip_setting index-url) extra=$(pip_setting extra-index-url)
  links=$(pip_setting find-links) cert=$(pip_setting cert)
  if [ -n "$index" ]; then export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$index}; fi
  if [ -n "$links" ]; then export UV_FIND_LINKS=${UV_FIND_LINKS:-${links// /,}}; fi
  if [ -n "$cert" ]; then export SSL_CERT_FILE=${SSL_CERT_FILE:-$cert}; fi
  if [ -n "$extra" ]; then # pip takes the best of all indexes; uv would take the first that has the name
    export UV_INDEX=${UV_INDEX:-$extra} UV_INDEX_STRATEGY=${UV_INDEX_STRATEGY:-unsafe-best-match}
  fi
}

if command -v uv >/dev/null; then
  make_venv() { uv venv --quiet --allow-existing --python "$python" "$venv"; }
  # Compile the packages as pip does; else the first start compiles torch and warns about fairseq's strings.
  install_packages() { uv pip install --compile-bytecode --python "$venv/bin/python" "$@"; }
  uninstall_package() { uv pip uninstall --quiet --python "$venv/bin/python" "$1"; }
else
  make_venv() {
    if "$python" -c 'import ensurepip' 2>/dev/null; then
      "$python" -m venv "$venv"
    else # Debian has ensurepip in a separate package; the installed pip can install another
      local pip
      pip=$("$python" -c 'import os, pip; print(os.path.dirname(pip.__file__))' 2>/dev/null) ||
        die "$python has neither pip nor ensurepip; install python3-venv (Debian, Ubuntu) or uv"
      "$python" -m venv --without-pip "$venv"
      "$venv/bin/python" "$pip" install --quiet --ignore-installed pip
    fi
  }
  install_packages() { "$venv/bin/python" -m pip install --disable-pip-version-check "$@"; }
  uninstall_package() { "$venv/bin/python" -m pip uninstall --quiet --yes "$1"; }
fi

python=$(find_python) || die "no Python >= 3.10 found${PYTHON:+ at PYTHON=$PYTHON}; install one, or set PYTHON"
if command -v uv >/dev/null; then pass_pip_settings_to_uv; fi

if [ "$found" != "${key:-none} base" ]; then # none yet, interrupted, or other pins
  say "making $venv with $("$python" -V) and $(command -v uv >/dev/null && uv --version || echo pip)"
  mkdir -p "$venv"
  echo installing >"$state"
  find "$venv" -mindepth 1 ! -path "$state" -delete # the state stays: an interruption here is an interrupted start, too
  make_venv
  python=$venv/bin/python

  say "1/3 torch and the build tools"
  install_packages -c constraints.txt setuptools setuptools-scm wheel cython numpy torch
  if "$python" -c "$has_wheel"; then
    say "2/3 fairseq (wheel)"
    install_packages --no-deps --require-hashes -r requirements-fairseq.txt
  else
    say "2/3 fairseq (compiled: about 3 minutes, no output meanwhile)"
    command -v c++ >/dev/null || die "fairseq needs a C++ compiler on this Python, and there is none;" \
      "install g++, or use Python 3.11 or 3.12 on Linux x86-64, which have a wheel"
    install_packages -c constraints.txt --no-build-isolation fairseq-fixed==0.12.3.1
  fi
  say "3/3 ppa_fairseq and the rest"
else
  python=$venv/bin/python
  say "adding what the tests need"
  echo installing >"$state"
fi

package=.
if [ "$packages" = test ]; then package=".[test,sources,mining,onnx,mteb,tagging]"; fi
install_packages -c constraints.txt --no-build-isolation -e "$package"
if upstream_is_in_the_way; then die "pip installed upstream 'fairseq' as a dependency; it overwrites ours"; fi
# fairseq requires torchaudio, but only its speech models use it. A torchaudio for another torch (CPU only) cannot be
# loaded, and then transformers, which imports it if it is installed, fails to import BERT.
if ! "$python" -c 'import torchaudio' 2>/dev/null; then uninstall_package torchaudio; fi
key=$(key_of "$python")
echo "$key $packages" >"$state.new"
mv "$state.new" "$state"
say "$venv is ready; activate it with: . $venv/bin/activate"
