"""A CLIP whose two towers belong together: their features lie in one space, whose width and temperature they bring along.

The loss is CLIP's where captions are distinct, and right where some are equal, as in batches that are contrasted together.
"""

model = dict(
    type="CLIP",
    image_encoder="clip:ViT-B/32",
    text_encoder="clip:ViT-B/32",
    embed_dim=None,
    temperature=None,
    loss=dict(type="MultiPositiveContrastiveLoss"),
    in_batch_measures=True,
)
