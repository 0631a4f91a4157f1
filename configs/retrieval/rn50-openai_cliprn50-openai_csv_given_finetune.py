"""OpenAI's CLIP RN50, fine-tuned on tables of images and captions.

    python tools/train.py configs/retrieval/rn50-openai_cliprn50-openai_csv_given_finetune.py

Expected: not measured.
"""

_base_ = ["./vitb32-openai_clipb32-openai_csv_given_finetune.py"]

model = dict(image_encoder="clip:RN50", text_encoder="clip:RN50")
