"""An image tower and a linear map to the classes. Any backbone will do; with a CLIP's text tower the head may start from the captions."""

model = dict(
    type="ImageClassifier",
    image_encoder="clip:ViT-B/32",
    head=dict(type="LinearHead"),
    loss=dict(type="CrossEntropyLoss"),
)
