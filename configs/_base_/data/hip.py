"""Radiographs of hip prostheses, one folder per class, patients in groups.csv. Drawn ones: `python tools/make_sample_data.py hip`."""

data = dict(
    dataset=dict(
        type="ImageFolderDataset",
        root="data/hip/images",
        class_texts="data/hip/class_texts.json",
        groups="data/hip/groups.csv",
    ),
    batch_size=32,
    augmentation="standard",
    sampler=dict(type="WeightedSampler", method="inverse_freq", smooth_factor=1.0),
    num_workers=4,
)
