"""CLIP ViT-B/32 from scratch on tables of images and captions: a batch never holds a caption twice, the parts are two files.

    python tools/make_pairs.py IMAGES --class-list words.txt --template "a photo of a {class_name}" --out data/csv/train.csv \\
        --val-fraction 0.1 --val-out data/csv/val.csv
    python tools/train.py configs/retrieval/vitb32_clipb32_csv_given_scratch.py

Expected: not measured (400 epochs of such a model are days on a GPU).
"""

_base_ = [
    "../_base_/models/clip_joint.py",
    "../_base_/data/csv.py",
    "../_base_/splits/given.py",
    "../_base_/schedules/clip_scratch_400e.py",
    "../_base_/runtime/default.py",
]

model = dict(image_encoder="clip:ViT-B/32:scratch", text_encoder="clip:ViT-B/32:scratch")
