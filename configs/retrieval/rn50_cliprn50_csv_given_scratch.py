"""CLIP RN50 from scratch on tables of images and captions.

    python tools/train.py configs/retrieval/rn50_cliprn50_csv_given_scratch.py

Expected: not measured.
"""

_base_ = ["./vitb32_clipb32_csv_given_scratch.py"]

model = dict(image_encoder="clip:RN50:scratch", text_encoder="clip:RN50:scratch")
