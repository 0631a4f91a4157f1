"""ResNet-18 x Chinese BERT on class folders of your own, five folds. Start here with other data than hips.

    python tools/train.py configs/clip/r18_bertzh_folders_5fold.py --cfg-options data.dataset.root=/path/to/class_folders

Expected: not measured; it depends on the images.
"""

_base_ = [
    "../_base_/models/clip.py",
    "../_base_/data/folders.py",
    "../_base_/splits/5fold.py",
    "../_base_/schedules/adamw_cosine_100e.py",
    "../_base_/runtime/default.py",
]
