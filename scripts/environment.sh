#!/usr/bin/env bash
# Makes the virtual environment that the Makefile uses, or brings it up to date:
#   scripts/environment.sh FOLDER [EXTRA,EXTRA...]
# PYTHON chooses the interpreter; otherwise the first suitable one of python3, python3.13, python3.12, python3.11.
# The extra for a visible NVIDIA GPU or TPU is added by itself.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$1
extras=${2:-}

say() { echo "setup: $*" >&2; }
die() { say "$*"; exit 2; }
suitable() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' >/dev/null 2>&1; }
version() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])'; }

if [ -n "${PYTHON:-}" ]; then
  command -v "$PYTHON" >/dev/null || die "PYTHON=$PYTHON is not a program; give one of Python 3.11, 3.12 or 3.13"
  suitable "$PYTHON" || die "PYTHON=$PYTHON does not run as Python 3.11, 3.12 or 3.13"
elif [ ! -x "$venv/bin/python" ]; then
  for name in python3 python3.13 python3.12 python3.11; do
    if suitable "$name"; then PYTHON=$name; break; fi
  done
  [ -n "${PYTHON:-}" ] || die "needs Python 3.11, 3.12 or 3.13 and found none" \
    "(Debian, Ubuntu: apt-get install python3 python3-venv; or say which: make PYTHON=/path/to/python3.12 ...)"
fi

if [ -x "$venv/bin/python" ]; then
  if [ -n "${PYTHON:-}" ] && [ "$(version "$PYTHON")" != "$(version "$venv/bin/python")" ]; then
    die "$venv holds Python $(version "$venv/bin/python"), not $(version "$PYTHON");" \
      "remove it, or name another folder: make VENV=.venv-$(version "$PYTHON") PYTHON=$PYTHON ..."
  fi
else
  "$PYTHON" -c 'import venv, ensurepip' >/dev/null 2>&1 ||
    die "$PYTHON cannot make virtual environments: apt-get install python$(version "$PYTHON")-venv"
  say "making $venv with Python $(version "$PYTHON")"
  "$PYTHON" -m venv "$venv"
fi

# jax[cuda13] needs a driver of CUDA 13 (580 or newer).
driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -n 1 | cut -d . -f 1 || true)
if [[ $driver =~ ^[0-9]+$ ]]; then
  if [ "$driver" -ge 580 ]; then
    extras="${extras:+$extras,}cuda"
  else
    say "the NVIDIA driver $driver is older than 580, which JAX for CUDA 13 needs: setting up for the CPU alone"
  fi
fi
# PCI numbers of Google's TPUs (v2/v3, v4, v5p, v5e, v6e, v7x).
for device in /sys/bus/pci/devices/*; do
  if grep -qs 0x1ae0 "$device/vendor" && grep -qsE '0x(0027|005e|0062|0063|006f|0076)' "$device/device"; then
    extras="${extras:+$extras,}tpu"
    break
  fi
done

"$venv/bin/python" -m pip --version >/dev/null 2>&1 || "$venv/bin/python" -m ensurepip >/dev/null
pip=("$venv/bin/python" -m pip --disable-pip-version-check)
say "installing repro${extras:+[$extras]} into $venv"
"${pip[@]}" install --quiet -c constraints.txt -e ".${extras:+[$extras]}"
# Without its needs, for labmaze has no wheel for Python 3.13; see pyproject.toml.
"${pip[@]}" install --quiet --no-deps "$(grep -o 'dm-control==[0-9.]*' pyproject.toml)"
# Both install the folder `pygame`, and the last one wins; CarRacing's pixels are those of pygame.
if "${pip[@]}" show --quiet pygame-ce 2>/dev/null && "${pip[@]}" show --quiet pygame 2>/dev/null; then
  "${pip[@]}" uninstall --quiet --yes pygame-ce
  "${pip[@]}" install --quiet --no-deps --force-reinstall -c constraints.txt pygame
fi
