"""StarNet-S1 with ImageNet weights x Chinese BERT on radiographs of hip prostheses, five folds.

    python tools/train.py configs/clip/starnets1-in1k_bertzh_hip_5fold.py

Expected: not measured.
"""

_base_ = ["./r18_bertzh_hip_5fold.py"]

model = dict(image_encoder="starnet_s1:pretrained")
