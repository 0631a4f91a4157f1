"""Few-shot tasks: episodes, support sets, and how a model answers them."""
