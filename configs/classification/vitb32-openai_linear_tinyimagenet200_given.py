"""OpenAI's CLIP ViT-B/32 fine-tuned whole, with a linear head, on all 200 classes of Tiny ImageNet: twenty epochs at 5e-5, batches of 32.

    python tools/train.py configs/classification/vitb32-openai_linear_tinyimagenet200_given.py

Expected: not measured.
"""

_base_ = ["./vitb32-openai_linear_tinyimagenet50_given.py"]

data = dict(dataset=dict(num_classes=200))
optimizer = dict(lr=5e-5)
train = dict(epochs=20)
