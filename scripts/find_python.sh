#!/bin/sh
# Prints the path of the Python to make .venv with: the newest of 3.14 to 3.11 that runs, one with venv and pip before
# one without. Words given (make's PYTHON) are the only candidates. Exit 1 and a sentence where there is none.
set -u

# A name on PATH may be a stub that cannot run (pyenv's shims of versions that are not active), so each is run.
suitable='import sys; sys.exit(sys.version_info < (3, 11))'
complete='import ensurepip, sys, venv; print(sys.executable)'
path='import sys; print(sys.executable)'

if [ "$#" -gt 0 ]; then
    candidates="$*"
    wanted="PYTHON=$*"
else
    candidates="python3.14 python3.13 python3.12 python3.11 python3"
    wanted="python3.14 … python3.11 or python3"
fi

incomplete=""
for candidate in $candidates; do
    "$candidate" -c "$suitable" >/dev/null 2>&1 || continue
    if found=$("$candidate" -c "$complete" 2>/dev/null); then
        printf '%s\n' "$found"
        exit 0
    fi
    # Left for scripts/environment.py, which says what this Python lacks.
    [ -n "$incomplete" ] || incomplete=$("$candidate" -c "$path")
done
if [ -n "$incomplete" ]; then
    printf '%s\n' "$incomplete"
    exit 0
fi
{
    printf 'No suitable Python: none of %s is a Python 3.11 or newer that runs.\n' "$wanted"
    printf 'Install one (Debian 12 and Ubuntu 24.04: apt install python3 python3-venv), or name one: make run PYTHON=/path/to/python3\n'
} >&2
exit 1
