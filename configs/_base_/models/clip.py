"""A CLIP of two towers that are chosen by name. S1's defaults: joint width 512, temperature 0.07, learned."""

model = dict(
    type="CLIP",
    image_encoder="resnet18",
    text_encoder="bert-base-chinese",
    embed_dim=512,
    temperature=0.07,
    loss=dict(type="MultiPositiveContrastiveLoss"),
)
