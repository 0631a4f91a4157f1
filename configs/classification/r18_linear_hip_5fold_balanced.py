"""ResNet-18 from scratch with a linear head on radiographs of hip prostheses, five folds grouped by patient. Suits a CPU.

    python tools/make_sample_data.py hip
    python tools/train.py configs/classification/r18_linear_hip_5fold_balanced.py

The loss weighs the classes to the same sum, by their numbers in the training part of each fold; so the weighted sampler is off.
Expected: not measured.
"""

_base_ = [
    "../_base_/models/image_classifier.py",
    "../_base_/data/hip.py",
    "../_base_/splits/5fold.py",
    "../_base_/schedules/adamw_cosine_100e.py",
    "../_base_/runtime/default.py",
]

model = dict(image_encoder=dict(type="ResNet", depth=18, image_size=128), loss=dict(class_weights="balanced"))
data = dict(batch_size=16, sampler=None, num_workers=1)
optimizer = dict(lr=1e-3)
schedule = dict(warmup_epochs=1)
train = dict(epochs=20)
