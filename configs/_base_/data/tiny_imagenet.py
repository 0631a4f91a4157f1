"""Tiny ImageNet-200 in its original layout, in some of its 200 classes. The official val images are the test part.

Its classes are equally large, so accuracy chooses the epoch, on a tenth of the train images.
"""

data = dict(
    dataset=dict(type="TinyImageNetDataset", root="data/tiny-imagenet-200", split="trainval", num_classes=50),
    batch_size=32,
    augmentation="minimal",
    num_workers=4,
)
evaluation = dict(select="accuracy")
