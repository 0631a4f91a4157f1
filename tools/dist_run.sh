# Read by dist_train.sh and dist_test.sh.
# dist_run NUM_PROCESSES PROGRAM [arguments]: start PROGRAM through torchrun, on this machine or as one of NNODES.
dist_run() {
    local processes=$1
    shift
    local rendezvous=(--standalone)
    if [ "${NNODES:-1}" -gt 1 ]; then
        if [ -z "${NODE_RANK:-}" ] || [ -z "${MASTER_ADDR:-}" ]; then
            echo "error: NNODES=$NNODES needs NODE_RANK, 0 to $((NNODES - 1)), and MASTER_ADDR, the name of the machine with NODE_RANK=0" >&2
            exit 2
        fi
        rendezvous=(--nnodes "$NNODES" --node_rank "$NODE_RANK" --master_addr "$MASTER_ADDR" --master_port "${PORT:-29500}")
    elif [ -n "${PORT:-}" ]; then
        rendezvous=(--master_port "$PORT")
    fi
    exec "${PYTHON:-python}" -m torch.distributed.run --nproc_per_node "$processes" "${rendezvous[@]}" "$@"
}
