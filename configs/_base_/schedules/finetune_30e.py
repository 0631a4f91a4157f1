"""Published weights on a small labelled set: a learning rate of 1e-5, one warm-up epoch and a cosine, 30 epochs."""

optimizer = dict(type="AdamW", lr=1e-5, weight_decay=0.01)
schedule = dict(type="CosineSchedule", warmup_epochs=1)
train = dict(epochs=30, clip_grad=1.0)
