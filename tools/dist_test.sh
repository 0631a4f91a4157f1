#!/usr/bin/env bash
# bash tools/dist_test.sh CONFIG WORK_DIR NUM_PROCESSES [arguments of tools/test.py]
# Scores on NUM_PROCESSES GPUs of this machine (processes on the CPU where there is no GPU). Environment as in dist_train.sh.
set -euo pipefail
if [ $# -lt 3 ]; then
    echo "usage: bash tools/dist_test.sh CONFIG WORK_DIR NUM_PROCESSES [arguments of tools/test.py]" >&2
    exit 2
fi
config=$1
work_dir=$2
processes=$3
shift 3
source "$(dirname "$0")/dist_run.sh"
dist_run "$processes" "$(dirname "$0")/test.py" "$config" "$work_dir" --launcher pytorch "$@"
