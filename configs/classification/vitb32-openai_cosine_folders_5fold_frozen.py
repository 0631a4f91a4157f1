"""A cosine head on the frozen image tower of OpenAI's CLIP ViT-B/32, on class folders of your own, five folds.

    python tools/train.py configs/classification/vitb32-openai_cosine_folders_5fold_frozen.py \\
        --cfg-options data.dataset.root=/path/to/class_folders

The head starts from the class captions, so it starts as zero-shot classification. Without augmentation every image is encoded once.
Reads English. The weights, once, with a network:

    python tools/download.py clip:ViT-B/32

Expected: not measured; it depends on the images.
"""

_base_ = [
    "../_base_/models/image_classifier.py",
    "../_base_/data/folders.py",
    "../_base_/splits/5fold.py",
    "../_base_/schedules/finetune_30e.py",
    "../_base_/runtime/default.py",
]

model = dict(
    image_encoder=dict(type="clip:ViT-B/32", freeze="all"),
    text_encoder="clip:ViT-B/32",
    head=dict(_delete_=True, type="CosineHead"),
)
data = dict(augmentation="none")
optimizer = dict(lr=1e-3)
