#!/usr/bin/env bash
# Sets the environment up, then runs notebooks or tests. See ./run_all.sh --help.
set -euo pipefail
export LANDMARK_CALLER="$PWD" # relative paths in the arguments are the caller's
cd "$(dirname "${BASH_SOURCE[0]}")"
export PYTHONPATH="$PWD"
CPU_INDEX=https://download.pytorch.org/whl/cpu # CPU builds of torch for Linux; PyPI has none

say() { printf '\033[1m%s\033[0m\n' "$*" >&2; }

# Whether a Python has what pyproject.toml asks for, tests included where they are to run.
satisfies() {
  if [[ $command == test ]]; then "$1" -m lib.environment --check test; else
    "$1" -m lib.environment --check; fi
}

has_nvidia_driver() {
  [[ -e /proc/driver/nvidia/version ]] || command -v nvidia-smi > /dev/null
}

# Installs CPU builds of torch and torchvision. Those of requirements.txt come from an index of
# their own, and beyond its reach torch may lie in a folder that pip knows (PIP_FIND_LINKS).
install_cpu_torch() {
  local pair
  pair="$(sed -nE 's/^(torch|torchvision)==([0-9.]+)/\1==\2+cpu/p' requirements.txt)"
  if [[ $(uname) != Linux ]]; then # elsewhere PyPI's are CPU builds
    pair="${pair//+cpu/}"
    .venv/bin/python -m pip install --quiet --requirement <(echo "$pair") >&2
  elif ! .venv/bin/python -m pip install --quiet --no-deps --retries 1 --timeout 20 \
    --index-url "$CPU_INDEX" --requirement <(echo "$pair") > /dev/null 2>&1; then
    .venv/bin/python -m pip install --quiet --no-deps --no-index 'torch>=2.6' > /dev/null 2>&1 &&
      say "$CPU_INDEX is out of reach: taking a CPU build of torch from PIP_FIND_LINKS"
  fi
}

install() {
  local python="$1" builds=GPU
  [[ $is_cpu || $(uname) != Linux ]] || has_nvidia_driver || is_cpu=by-itself
  "$python" -m venv .venv >&2
  # One of the two over the other in a folder that is there would be a mixture.
  .venv/bin/python -m pip uninstall --quiet --yes faiss-cpu faiss-gpu > /dev/null 2>&1
  if [[ $is_cpu ]]; then
    say "Installing CPU builds into .venv (a few minutes, about 2.2 GB)"
    if install_cpu_torch; then
      builds=CPU
      local torch
      torch="$(.venv/bin/python -c 'from importlib.metadata import version; print(version("torch"))')"
      .venv/bin/python -m pip install --quiet --requirement <(
        .venv/bin/python -m lib.environment --cpu && echo "torch==$torch"
      ) >&2
    else
      say "No CPU build of torch: $CPU_INDEX is out of reach, and no folder of PIP_FIND_LINKS has one."
      if [[ $is_cpu != by-itself ]]; then
        say "Give such a folder, or leave --cpu out for the GPU builds of requirements.txt (8 GB)."
        exit 1
      fi
    fi
  fi
  if [[ $builds == GPU ]]; then
    say "Installing requirements.txt into .venv (a few minutes, about 8 GB)"
    .venv/bin/python -m pip install --quiet --requirement requirements.txt >&2
  fi
  # Makes `import lib` work from notebooks/ too, whichever editor opens them.
  echo "$PWD" > "$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/landmarks.pth"
  { cat requirements.txt && echo "# $builds builds"; } > .venv/installed.txt
}

# Whether .venv is of this requirements.txt and whole; --cpu asks for CPU builds.
is_installed() {
  [[ -f .venv/installed.txt ]] || return 1
  [[ $is_cpu != asked ]] || grep -q '^# CPU builds' .venv/installed.txt || return 1
  cmp -s requirements.txt <(grep -vE '^# [CG]PU builds' .venv/installed.txt) &&
    satisfies .venv/bin/python 2> /dev/null
}

find_python() {
  set -e # a $(...) forgets it, and a failed installation would count as done
  # An active virtual or conda environment, or that of Kaggle or Colab, if it has all that is needed.
  local active="${VIRTUAL_ENV:-}${CONDA_PREFIX:-}${KAGGLE_KERNEL_RUN_TYPE:-}${COLAB_RELEASE_TAG:-}"
  if [[ -n $active ]] && satisfies python; then
    echo python
    return
  fi
  local python="${PYTHON:-python3}"
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || {
    say "Expected Python 3.10 or newer, found $("$python" --version 2>&1); set PYTHON to a newer one."
    exit 1
  }
  # Installed once, and again only when requirements.txt changes or a package is gone.
  if ! is_installed; then
    [[ -w . ]] || {
      say "$PWD is read-only, so nothing can be installed there; install what is lacking into the"
      say "active environment, or copy the repository to a folder that you may write to."
      exit 1
    }
    install "$python"
  fi
  echo .venv/bin/python
}

is_cpu=""
for argument in "$@"; do # wherever it stands
  shift
  if [[ $argument == --cpu ]]; then is_cpu=asked; else set -- "$@" "$argument"; fi
done
command="${1:-mini}"
case "$command" in
  -h | --help) exec "${PYTHON:-python3}" -m lib.environment --help ;;
esac
python="$(find_python)"
eval "$("$python" -m lib.environment --exports)"
say "Using $("$python" --version) in $("$python" -c 'import sys; print(sys.prefix)')"
case "$command" in
  # One thread in each process: more threads than cores only wait for each other.
  test) shift && OMP_NUM_THREADS=1 exec "$python" -m pytest --numprocesses auto \
    --dist loadfile --no-loadscope-reorder "$@" ;;
  import) shift && exec "$python" -m lib.data.own_photos "$@" ;;
  lab) shift && exec "$python" -m jupyter lab --notebook-dir notebooks \
    --ServerApp.kernel_spec_manager_class=lib.kernel.RunningPython "$@" ;;
  demo) shift && exec "$python" -m lib.demo "$@" ;;
  ablation) shift && exec "$python" -m lib.pipeline --ablation "$@" ;;
  settings) shift && exec "$python" -m lib.pipeline --settings "$@" ;;
  reference) shift && exec "$python" -m lib.reports "$@" ;;
  *) exec "$python" -m lib.pipeline "$@" ;;
esac
