"""The run: what is built from a config, the training loop, and cross-validation over it. The page to read first is ``loop.py``."""
