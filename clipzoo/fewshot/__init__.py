"""Few-shot tasks: episodes, support sets, and predictions for them."""
