"""OpenAI's CLIP ViT-B/32, both towers frozen; two small networks of one hidden layer learn on top of them. S2's freeze_backbone.

    python tools/train.py configs/retrieval/vitb32-openai_clipb32-openai_pairs_holdout_frozen.py

Expected: not measured.
"""

_base_ = [
    "../_base_/models/clip_joint.py",
    "../_base_/data/pairs.py",
    "../_base_/splits/holdout.py",
    "../_base_/schedules/adamw_cosine_100e.py",
    "../_base_/runtime/default.py",
]

model = dict(
    image_encoder=dict(type="CLIPVision", variant="ViT-B/32", pretrained=True, freeze="all"),
    text_encoder=dict(type="CLIPText", variant="ViT-B/32", pretrained=True, freeze="all"),
    image_projection=dict(type="MLPProjection", dropout=0.1),
    text_projection=dict(type="MLPProjection", dropout=0.1),
    embed_dim=512,
    temperature=0.07,
    loss=dict(type="MultiPositiveContrastiveLoss"),
)
train = dict(epochs=50)
