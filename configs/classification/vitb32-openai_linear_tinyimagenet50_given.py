"""OpenAI's CLIP ViT-B/32 fine-tuned whole, with a linear head, on 50 classes of Tiny ImageNet: ten epochs, batches of 32.

    python tools/train.py configs/classification/vitb32-openai_linear_tinyimagenet50_given.py

Data: tiny-imagenet-200.zip, unpacked to data/tiny-imagenet-200; elsewhere: --cfg-options data.dataset.root=/path/to/tiny-imagenet-200
A tenth of the train images chooses the epoch, and the official val images are scored once, at the end. The old script chose the epoch on
the val images and reported the same number: --cfg-options splits.select_on_test=True does so too, and calls it optimistic.
Expected: not measured.
"""

_base_ = [
    "../_base_/models/image_classifier.py",
    "../_base_/data/tiny_imagenet.py",
    "../_base_/splits/given.py",
    "../_base_/schedules/classifier_10e.py",
    "../_base_/runtime/default.py",
]
