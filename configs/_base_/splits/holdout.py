"""One split: a fifth of the cases is tested, whole groups; a tenth of the others chooses the epoch."""

splits = dict(type="Holdout", test_fraction=0.2, seed=42, val_fraction=0.1)
