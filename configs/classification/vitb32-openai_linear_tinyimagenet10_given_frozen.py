"""A linear head on OpenAI's frozen CLIP ViT-B/32, 10 classes of Tiny ImageNet: three epochs, batches of 64. The quick experiment.

    python tools/train.py configs/classification/vitb32-openai_linear_tinyimagenet10_given_frozen.py

Without augmentation the frozen tower sees every image once; its features are kept, and the epochs are over in seconds.
Expected: not measured.
"""

_base_ = ["./vitb32-openai_linear_tinyimagenet50_given.py"]

model = dict(image_encoder=dict(type="clip:ViT-B/32", freeze="all"))
data = dict(dataset=dict(num_classes=10), batch_size=64, augmentation="none")
schedule = dict(warmup_epochs=0)
train = dict(epochs=3)
