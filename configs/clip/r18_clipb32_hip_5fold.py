"""ResNet-18 x the text tower of OpenAI's CLIP ViT-B/32 (the old scripts' default pair) on radiographs of hip prostheses, five folds.

    python tools/train.py configs/clip/r18_clipb32_hip_5fold.py

The vocabulary is English: a Chinese sentence takes 2.3 to 2.7 tokens per character, about 30 characters fit. Weights come from the hub;
from scratch: --cfg-options model.text_encoder=clip:ViT-B/32:scratch
Expected: not measured.
"""

_base_ = ["./r18_bertzh_hip_5fold.py"]

model = dict(text_encoder="clip:ViT-B/32")
