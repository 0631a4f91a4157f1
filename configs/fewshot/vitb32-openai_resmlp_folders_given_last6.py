"""The last six blocks of OpenAI's CLIP ViT-B/32 and a residual two-layer head, trained on class folders; for few-shot tasks.

    python tools/train.py configs/fewshot/vitb32-openai_resmlp_folders_given_last6.py \\
        --cfg-options data.dataset.root=/path/to/train data.dataset.val_root=/path/to/val
    python tools/fewshot.py predict work_dirs/vitb32-openai_resmlp_folders_given_last6 TEST_DIR RESULT.csv

A tenth of the train images chooses the epoch; the val images are scored once, at the end. The tasks use the tower, not the head.
Expected: not measured.
"""

_base_ = [
    "../_base_/models/image_classifier.py",
    "../_base_/data/folders.py",
    "../_base_/splits/given.py",
    "../_base_/schedules/classifier_10e.py",
    "../_base_/runtime/default.py",
]

model = dict(image_encoder=dict(type="clip:ViT-B/32", unfreeze_blocks=6), head=dict(type="ResidualMLPHead"))
data = dict(dataset=dict(root="data/few_shot/train", val_root="data/few_shot/val"))
optimizer = dict(lr=5e-4, module_lr={"image_encoder": 1e-5, "head": 5e-4})
train = dict(epochs=30)
