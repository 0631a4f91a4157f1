"""Simple methods on features of frozen towers, on the same folds as the models they are compared with."""
