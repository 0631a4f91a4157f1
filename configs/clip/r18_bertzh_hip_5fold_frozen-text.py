"""ResNet-18 x a frozen Chinese BERT: every caption is encoded once for the whole run, only the image tower and the projections learn.

    python tools/train.py configs/clip/r18_bertzh_hip_5fold_frozen-text.py

Expected: not measured.
"""

_base_ = ["./r18_bertzh_hip_5fold.py"]

model = dict(text_encoder=dict(type="bert-base-chinese", freeze="all"))
