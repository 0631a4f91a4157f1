"""As r18_bertsmall_pairs_holdout, with a moving average of the weights and eight batches of 16 contrasted together: 128 captions per step.

    python tools/make_sample_data.py pairs
    python tools/train.py configs/retrieval/r18_bertsmall_pairs_holdout_cached.py

Expected: not measured.
"""

_base_ = ["./r18_bertsmall_pairs_holdout.py"]

data = dict(batch_size=16)
train = dict(epochs=60, accumulation=8, grad_cache=True, ema_decay=0.9)
hooks = [
    dict(type="ConsoleHook"),
    dict(type="HistoryHook"),
    dict(type="MetricsCSVHook"),
    dict(type="ResultsHook"),
    dict(type="EarlyStoppingHook", patience=20),
]
