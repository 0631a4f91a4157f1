"""Tables of image path and caption, as `python tools/make_pairs.py` writes them; no caption twice in a batch of all processes."""

data = dict(
    dataset=dict(type="PairsDataset", path="data/csv/train.csv", test_path="data/csv/val.csv"),
    batch_size=64,
    augmentation="minimal",
    sampler=dict(type="DistinctCaptionSampler"),
    num_workers=4,
)
