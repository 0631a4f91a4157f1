"""S1's recipe: AdamW, learning rate 1e-4, weight decay 0.01, 100 epochs, here with five warm-up epochs and a cosine."""

optimizer = dict(type="AdamW", lr=1e-4, weight_decay=0.01)
schedule = dict(type="CosineSchedule", warmup_epochs=5)
train = dict(epochs=100, clip_grad=1.0)
