#!/usr/bin/env bash
# bash tools/dist_train.sh CONFIG NUM_PROCESSES [arguments of tools/train.py]
# Trains on NUM_PROCESSES GPUs of this machine (processes on the CPU where there is no GPU). Environment: PORT, PYTHON.
# On several machines, started once on each: NNODES=2 NODE_RANK=0 (on the others 1, 2, ...) MASTER_ADDR=<name of the first> PORT=29500
set -euo pipefail
if [ $# -lt 2 ]; then
    echo "usage: bash tools/dist_train.sh CONFIG NUM_PROCESSES [arguments of tools/train.py]" >&2
    exit 2
fi
config=$1
processes=$2
shift 2
source "$(dirname "$0")/dist_run.sh"
dist_run "$processes" "$(dirname "$0")/train.py" "$config" --launcher pytorch "$@"
