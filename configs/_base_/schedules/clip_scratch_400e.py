"""S4's recipe from scratch: AdamW with CLIP's betas, learning rate 1e-5, warm-up in steps, ten batches per step, 400 epochs.

The ten batches are contrasted together (grad_cache): 640 captions per step on one GPU, in the memory of 64.
"""

optimizer = dict(type="AdamW", lr=1e-5, weight_decay=0.2, betas=[0.9, 0.98], eps=1e-6)
schedule = dict(type="CosineSchedule", warmup_steps=1000)
train = dict(epochs=400, accumulation=10, grad_cache=True, clip_grad=1.0)
evaluation = dict(every_steps=200)
