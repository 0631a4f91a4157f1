"""OpenAI's CLIP ViT-B/32, fine-tuned on tables of images and captions.

    python tools/train.py configs/retrieval/vitb32-openai_clipb32-openai_csv_given_finetune.py

Expected: not measured.
"""

_base_ = [
    "../_base_/models/clip_joint.py",
    "../_base_/data/csv.py",
    "../_base_/splits/given.py",
    "../_base_/schedules/clip_finetune_10e.py",
    "../_base_/runtime/default.py",
]
