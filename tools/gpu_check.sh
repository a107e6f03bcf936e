#!/usr/bin/env bash
# Checks and measures tightfit on a machine with a GPU, Python, torch and transformers of its own, and no network; in at
# most 8 minutes. Beside the tree it needs the archive of `python tools/gpu_kit.py pack`.
#   tools/gpu_check.sh [--kit FILE|none] [--python PROGRAM] [--device cuda|cpu] [--out FOLDER] [--seconds 450] [--only STEP,...]
# "--kit none" takes what is installed. Figures and each step's output are in FOLDER (build/gpu), also where a step failed.
set -uo pipefail
cd "$(dirname "$0")/.."
kit=build/gpu-kit.tar.xz python=python3 seconds=450 device=cuda rest=()
while [ $# -gt 0 ]; do
  case $1 in
    --kit|--python|--seconds|--device) [ $# -gt 1 ] || { echo "$1 needs a value" >&2; exit 2; }
      printf -v "${1#--}" %s "$2"; shift 2 ;;
    *) rest+=("$1"); shift ;;
  esac
done
packages=$(mktemp -d) || exit 1
trap 'rm -rf "$packages"' EXIT
if [ "$kit" != none ]; then
  site=$("$python" tools/gpu_kit.py unpack "$kit" "$packages") || exit 1
  "$python" -m compileall -q -j 0 "$site" >/dev/null  # or each of Ray's processes does so, and comes up too late
  export PYTHONPATH="$PWD:$site${PYTHONPATH:+:$PYTHONPATH}"
else
  export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
fi
# Nothing that this machine is set to reaches in, no network is asked, and pytest takes no plugin that it is not told of.
unset RAY_ADDRESS TIGHTFIT_HOME TIGHTFIT_DATABASE_URL MLFLOW_TRACKING_URI
export HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 RAY_USAGE_STATS_ENABLED=0 PYTEST_DISABLE_PLUGIN_AUTOLOAD=1
export OMP_NUM_THREADS=1 PYTHONUNBUFFERED=1
[ "$device" = cuda ] || export CUDA_VISIBLE_DEVICES=
timeout --kill-after=5 $((seconds + 25)) "$python" -m benchmarks.gpu --device "$device" --seconds "$seconds" "${rest[@]}"
