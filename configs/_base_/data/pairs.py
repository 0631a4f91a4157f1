"""Images with captions and no classes. Drawn ones: `python tools/make_sample_data.py pairs`; your own: a JSON list, a table or a folder."""

data = dict(
    dataset=dict(type="PairsDataset", path="data/pairs"),
    batch_size=32,
    augmentation="minimal",
    num_workers=4,
)
