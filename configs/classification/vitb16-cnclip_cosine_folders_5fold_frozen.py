"""A cosine head on the frozen image tower of Chinese-CLIP ViT-B/16, on class folders of your own, five folds.

    python tools/train.py configs/classification/vitb16-cnclip_cosine_folders_5fold_frozen.py \\
        --cfg-options data.dataset.root=/path/to/class_folders

The head starts from the class captions, so it starts as zero-shot classification. Without augmentation every image is encoded once.
Reads Chinese. The weights, once, with a network:

    python tools/download.py chinese-clip:ViT-B-16

Expected: not measured; it depends on the images.
"""

_base_ = ["./vitb32-openai_cosine_folders_5fold_frozen.py"]

model = dict(
    image_encoder=dict(type="chinese-clip:ViT-B-16", freeze="all"),
    text_encoder="chinese-clip:ViT-B-16",
)
