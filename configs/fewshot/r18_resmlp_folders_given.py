"""A ResNet-18 of 64 px from scratch and a residual two-layer head on train and val class folders; for few-shot tasks. Suits a CPU.

    python tools/train.py configs/fewshot/r18_resmlp_folders_given.py \\
        --cfg-options data.dataset.root=/path/to/train data.dataset.val_root=/path/to/val
    python tools/fewshot.py predict work_dirs/r18_resmlp_folders_given TEST_DIR RESULT.csv

It needs no weights, so it shows how everything goes together; better features come from published weights.
Expected: not measured.
"""

_base_ = ["./vitb32-openai_resmlp_folders_given_last6.py"]

model = dict(image_encoder=dict(type="ResNet", depth=18, image_size=64))
optimizer = dict(lr=1e-3, module_lr=None)
