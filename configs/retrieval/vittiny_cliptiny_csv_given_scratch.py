"""A CLIP small enough for a CPU, from scratch, on tables of images and captions: S4's recipe in small.

    python tools/make_pairs.py IMAGES --class-list words.txt --template "a photo of a {class_name}" --out data/csv/train.csv \\
        --val-fraction 0.1 --val-out data/csv/val.csv
    python tools/train.py configs/retrieval/vittiny_cliptiny_csv_given_scratch.py --cfg-options data.batch_size=NUMBER_OF_CLASSES

Expected: on 12 classes of Tiny ImageNet with 54 images each, in two processes with data.batch_size=6 and train.epochs=20: test R@1 0.28
image to text among 12 captions (chance 0.08), R@5 0.85. Measured once, on two cores of a Xeon.
"""

_base_ = ["./vitb32_clipb32_csv_given_scratch.py"]

model = dict(
    image_encoder=dict(type="CLIPVision", image_size=64, patch_size=8, width=192, layers=6, heads=3, output_dim=256),
    text_encoder=dict(type="CLIPText", width=192, layers=4, heads=3, output_dim=256),
    temperature=0.07,
)
data = dict(batch_size=12, num_workers=1)
optimizer = dict(lr=5e-4)
schedule = dict(warmup_steps=20)
train = dict(epochs=30, accumulation=4)
evaluation = dict(every_steps=25)
