"""ResNet-18 x a small Chinese BERT, both from scratch, on findings of radiographs of hip prostheses, five folds. Suits a CPU.

    python tools/make_sample_data.py hip
    python tools/train.py configs/clip/r18_bertsmall_hip-findings_5fold.py

Several labels per image, each described by a sentence: the sigmoid of SigLIP against the sentences of all findings. Expected: not measured.
"""

_base_ = [
    "../_base_/models/clip.py",
    "../_base_/data/hip_findings.py",
    "../_base_/splits/5fold.py",
    "../_base_/schedules/adamw_cosine_100e.py",
    "../_base_/runtime/default.py",
]

model = dict(
    image_encoder=dict(type="ResNet", depth=18, image_size=128),
    text_encoder=dict(type="BERT", pretrained=False, pooling="mean", hidden_size=128, num_layers=2, num_heads=4),
    loss=dict(_delete_=True, type="ClassSigmoidLoss", negatives_per_positive=2.0),
)
data = dict(batch_size=16, num_workers=1)
optimizer = dict(lr=1e-3)
schedule = dict(warmup_epochs=1)
train = dict(epochs=20)
