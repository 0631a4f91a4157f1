"""S0's defaults: learning rate 1e-4, ten epochs; here AdamW with one warm-up epoch and a cosine."""

optimizer = dict(type="AdamW", lr=1e-4, weight_decay=0.01)
schedule = dict(type="CosineSchedule", warmup_epochs=1)
train = dict(epochs=10, clip_grad=1.0)
