"""ResNet-18 from scratch with one logit per finding on radiographs of hip prostheses, five folds grouped by patient. Suits a CPU.

    python tools/make_sample_data.py hip
    python tools/train.py configs/classification/r18_linear_hip-findings_5fold.py

Several labels per image: cement, metal cup, stem and wires. The loss weighs presence and absence of each finding by their numbers in the
training part of the fold; thresholds are chosen on val. Expected: not measured.
"""

_base_ = [
    "../_base_/models/image_classifier.py",
    "../_base_/data/hip_findings.py",
    "../_base_/splits/5fold.py",
    "../_base_/schedules/adamw_cosine_100e.py",
    "../_base_/runtime/default.py",
]

model = dict(
    image_encoder=dict(type="ResNet", depth=18, image_size=128),
    loss=dict(_delete_=True, type="BinaryCrossEntropyLoss", pos_weight="balanced"),
)
data = dict(batch_size=16, num_workers=1)
optimizer = dict(lr=1e-3)
schedule = dict(warmup_epochs=1)
train = dict(epochs=20)
