"""The last two blocks of OpenAI's CLIP ViT-B/32, on class folders of your own, five folds; the text tower is frozen.

    python tools/train.py configs/clip/vitb32-openai_clipb32-openai_folders_5fold_last2.py \\
        --cfg-options data.dataset.root=/path/to/class_folders

Reads English. The weights, once, with a network:

    python tools/download.py clip:ViT-B/32

Expected: not measured; it depends on the images.
"""

_base_ = [
    "../_base_/models/clip_joint.py",
    "../_base_/data/folders.py",
    "../_base_/splits/5fold.py",
    "../_base_/schedules/finetune_30e.py",
    "../_base_/runtime/default.py",
]

model = dict(
    image_encoder=dict(type="clip:ViT-B/32", unfreeze_blocks=2),
    text_encoder=dict(type="clip:ViT-B/32", freeze="all"),
)
