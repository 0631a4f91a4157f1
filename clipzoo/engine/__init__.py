"""A run: the objects built from a config, the training loop, and cross-validation around it. Read ``loop.py`` first."""
