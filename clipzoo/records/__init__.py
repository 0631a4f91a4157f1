"""What a run writes to disk: folds, results, prediction tables and comparisons, with the seals and digests that protect them."""
