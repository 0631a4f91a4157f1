"""ResNet-18 x a small Chinese BERT, both from scratch, on radiographs of hip prostheses, five folds. Needs no download and suits a CPU.

    python tools/make_sample_data.py hip
    python tools/train.py configs/clip/r18_bertsmall_hip_5fold.py

Expected: not measured.
"""

_base_ = ["./r18_bertzh_hip_5fold.py"]

model = dict(
    image_encoder=dict(type="ResNet", depth=18, image_size=128),
    text_encoder=dict(type="BERT", pretrained=False, pooling="mean", hidden_size=128, num_layers=2, num_heads=4),
)
data = dict(batch_size=16, num_workers=1)
optimizer = dict(lr=1e-3)
schedule = dict(warmup_epochs=1)
train = dict(epochs=20)
