"""Five folds, stratified by class and grouped by patient; a tenth of each training part chooses the epoch."""

splits = dict(type="StratifiedGroupKFold", num_folds=5, seed=42, val_fraction=0.1)
