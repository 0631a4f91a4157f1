"""ResNet-18 x a small Chinese BERT, both from scratch, on images with Chinese captions. Needs no download and suits a CPU.

    python tools/make_sample_data.py pairs
    python tools/train.py configs/retrieval/r18_bertsmall_pairs_holdout.py

Expected: test R@1 0.79 image to text and 0.77 text to image, of 80 images and their captions; RSum 556. Measured once, on two cores
of a Xeon.
"""

_base_ = [
    "../_base_/models/clip.py",
    "../_base_/data/pairs.py",
    "../_base_/splits/holdout.py",
    "../_base_/schedules/adamw_cosine_100e.py",
    "../_base_/runtime/default.py",
]

model = dict(
    image_encoder=dict(type="ResNet", depth=18, image_size=96),
    text_encoder=dict(type="BERT", pretrained=False, pooling="mean", hidden_size=128, num_layers=2, num_heads=4),
    in_batch_measures=True,
)
data = dict(num_workers=1)
optimizer = dict(lr=1e-3)
schedule = dict(warmup_epochs=1)
train = dict(epochs=20)
