"""Any labelled images, one folder per class; the class name goes into a sentence. Descriptions of your own: data.dataset.class_texts."""

data = dict(
    dataset=dict(type="ImageFolderDataset", root="data/my_images"),
    batch_size=32,
    augmentation="standard",
    num_workers=4,
)
