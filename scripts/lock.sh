#!/usr/bin/env bash
# Solves pyproject.toml anew and writes constraints.txt: one exact version of everything, all extras, for every
# supported Python. Run it to move to newer versions, then run the tests on each Python before committing.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
"${PYTHON:-python3}" -m venv "$tools"
"$tools/bin/python" -m pip install --quiet uv==0.13.9
{
  echo "# Written by scripts/lock.sh; every install uses it (pip install -c constraints.txt ...)."
  "$tools/bin/uv" pip compile --quiet --universal --python-version 3.11 --all-extras --upgrade \
    --strip-extras --no-annotate --no-header --no-emit-index-url --no-emit-find-links pyproject.toml |
    # What holds for every supported Python and system needs no condition.
    sed -E "s/ and \(sys_platform == 'darwin' or sys_platform == 'linux'\)//; s/python_full_version < '3.14'( and )?//; s/ and $//; s/ ; $//"
} >"$tools/constraints.txt"
cp "$tools/constraints.txt" constraints.txt
