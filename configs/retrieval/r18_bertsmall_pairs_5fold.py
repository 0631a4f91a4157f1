"""The same towers as r18_bertsmall_pairs_holdout, in five folds: every image and its captions are tested once.

    python tools/make_sample_data.py pairs
    python tools/train.py configs/retrieval/r18_bertsmall_pairs_5fold.py

Expected: not measured.
"""

_base_ = ["./r18_bertsmall_pairs_holdout.py"]

splits = dict(_delete_=True, type="KFold", num_folds=5, seed=42, val_fraction=0.1)
