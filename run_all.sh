#!/usr/bin/env bash
# Sets the environment up, then runs notebooks or tests. See ./run_all.sh --help.
set -euo pipefail
export LANDMARK_CALLER="$PWD" # relative paths in the arguments are the caller's
cd "$(dirname "${BASH_SOURCE[0]}")"
export PYTHONPATH="$PWD"

say() { printf '\033[1m%s\033[0m\n' "$*" >&2; }

satisfies() { "$1" -m lib.environment requirements.txt; }

find_python() {
  set -e # a $(...) forgets it, and a failed installation would count as done
  # An active virtual or conda environment, or a Kaggle kernel, if it has all that is pinned.
  if [[ -n "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}${KAGGLE_KERNEL_RUN_TYPE:-}" ]] && satisfies python; then
    echo python
    return
  fi
  local python="${PYTHON:-python3}"
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || {
    say "Expected Python 3.10 or newer, found $("$python" --version 2>&1); set PYTHON to a newer one."
    exit 1
  }
  # Installed once, and again only when requirements.txt changes or a package is gone.
  if ! cmp -s requirements.txt .venv/installed.txt || ! satisfies .venv/bin/python 2> /dev/null; then
    say "Installing requirements.txt into .venv (a few minutes, about 8 GB)"
    "$python" -m venv .venv >&2
    .venv/bin/python -m pip install --quiet --requirement requirements.txt >&2
    # Makes `import lib` work from notebooks/ too, whichever editor opens them.
    echo "$PWD" > "$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/landmarks.pth"
    cp requirements.txt .venv/installed.txt
  fi
  echo .venv/bin/python
}

command="${1:-mini}"
case "$command" in
  -h | --help) exec "${PYTHON:-python3}" -m lib.environment --help ;;
esac
python="$(find_python)"
eval "$("$python" -m lib.environment --exports)"
say "Using $("$python" --version) in $("$python" -c 'import sys; print(sys.prefix)')"
case "$command" in
  # A process per core, and one thread in each: more threads than cores only wait for each other.
  test) shift && OMP_NUM_THREADS=1 exec "$python" -m pytest --numprocesses auto \
    --dist loadfile --no-loadscope-reorder "$@" ;;
  import) shift && exec "$python" -m lib.data.own_photos "$@" ;;
  lab) shift && exec "$python" -m jupyter lab --notebook-dir notebooks \
    --ServerApp.kernel_spec_manager_class=lib.kernel.RunningPython "$@" ;;
  ablation) shift && exec "$python" -m lib.pipeline --ablation "$@" ;;
  settings) shift && exec "$python" -m lib.pipeline --settings "$@" ;;
  reference) shift && exec "$python" -m lib.reports "$@" ;;
  *) exec "$python" -m lib.pipeline "$@" ;;
esac
