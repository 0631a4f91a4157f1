"""How a CLIP lies in files: its tensors, sizes, names and options. What reading and writing both know."""
