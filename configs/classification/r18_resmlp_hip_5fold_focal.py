"""ResNet-18 with a residual two-layer head and the focal loss on radiographs of hip prostheses, five folds grouped by patient.

    python tools/make_sample_data.py hip
    python tools/train.py configs/classification/r18_resmlp_hip_5fold_focal.py

The focal loss turns to the cases that are still doubtful, and half of the imbalance is corrected by weights.
Expected: not measured.
"""

_base_ = ["./r18_linear_hip_5fold_balanced.py"]

model = dict(
    head=dict(_delete_=True, type="ResidualMLPHead", dropout=0.1),
    loss=dict(_delete_=True, type="FocalLoss", gamma=2.0, class_weights="inverse_sqrt"),
)
