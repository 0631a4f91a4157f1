"""How cases become batches: the order of an epoch, samplers, the worker processes, the loader."""
