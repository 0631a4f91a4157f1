"""What a run leaves on disk: folds, results, prediction tables, comparisons; and the seals and digests that guard them."""
