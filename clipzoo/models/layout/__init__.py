"""The layout of CLIP weights in files (tensors, sizes, names and options), shared by reading and writing."""
