#!/usr/bin/env bash
# bash tools/dist_train.sh CONFIG NUM_PROCESSES [arguments of tools/train.py]
# Trains on NUM_PROCESSES GPUs of this machine (processes on the CPU where there is no GPU). Environment: PORT, PYTHON.
set -euo pipefail
if [ $# -lt 2 ]; then
    echo "usage: bash tools/dist_train.sh CONFIG NUM_PROCESSES [arguments of tools/train.py]" >&2
    exit 2
fi
config=$1
processes=$2
shift 2
if [ -n "${PORT:-}" ]; then
    rendezvous=(--master_port "$PORT")
else
    rendezvous=(--standalone)
fi
exec "${PYTHON:-python}" -m torch.distributed.run --nproc_per_node "$processes" "${rendezvous[@]}" \
    "$(dirname "$0")/train.py" "$config" --launcher pytorch "$@"
