"""ResNet-18 from scratch with a linear head on the 1 797 real digits of scikit-learn, five folds. Needs no download and suits a CPU.

    python tools/make_sample_data.py digits
    python tools/train.py configs/classification/r18_linear_digits_5fold.py

Expected: accuracy 0.988 ± 0.006 over folds, 0.988 pooled, on one CPU core, fp32 (another torch version or processor gives other last
digits); the time was not measured.
"""

_base_ = [
    "../_base_/models/image_classifier.py",
    "../_base_/data/digits.py",
    "../_base_/splits/5fold.py",
    "../_base_/schedules/adamw_cosine_100e.py",
    "../_base_/runtime/default.py",
]

model = dict(image_encoder=dict(type="ResNet", depth=18, image_size=32))
data = dict(batch_size=64)
optimizer = dict(lr=2e-3)
schedule = dict(warmup_epochs=1)
train = dict(epochs=6)
