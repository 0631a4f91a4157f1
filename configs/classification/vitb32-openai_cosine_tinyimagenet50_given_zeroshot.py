"""OpenAI's CLIP ViT-B/32 with a cosine head that starts from the class captions: epoch 0 is zero-shot classification, training goes on.

    python tools/train.py configs/classification/vitb32-openai_cosine_tinyimagenet50_given_zeroshot.py

The text tower is there for the start alone, and in no checkpoint. A tower that can predict already wants a small learning rate.
Expected: not measured.
"""

_base_ = ["./vitb32-openai_linear_tinyimagenet50_given.py"]

model = dict(text_encoder="clip:ViT-B/32", head=dict(_delete_=True, type="CosineHead"))
optimizer = dict(lr=1e-5)
