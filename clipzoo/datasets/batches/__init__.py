"""Batching: the order of an epoch, samplers, worker processes, and the loader."""
