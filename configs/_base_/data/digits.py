"""The 1 797 handwritten digits that scikit-learn ships, with Chinese class names: `python tools/make_sample_data.py digits`."""

data = dict(
    dataset=dict(type="ImageFolderDataset", root="data/digits/images", class_texts="data/digits/class_texts.json"),
    batch_size=32,
    augmentation="minimal",
    num_workers=0,
)
