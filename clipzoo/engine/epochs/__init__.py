"""Which epoch is used: the best of a run on its val part, or the best on average over inner folds."""
