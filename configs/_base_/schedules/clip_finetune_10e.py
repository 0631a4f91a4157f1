"""Fine-tuning published weights: a learning rate of 1e-6, short warm-up, ten batches contrasted together, ten epochs at most."""

optimizer = dict(type="AdamW", lr=1e-6, weight_decay=0.1, betas=[0.9, 0.98], eps=1e-6)
schedule = dict(type="CosineSchedule", warmup_steps=100)
train = dict(epochs=10, accumulation=10, grad_cache=True, clip_grad=1.0)
evaluation = dict(every_steps=100)
