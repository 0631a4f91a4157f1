"""Low-rank adapters in the image tower of Chinese-CLIP ViT-B/16, on class folders of your own, five folds; the text tower is frozen.

    python tools/train.py configs/clip/vitb16-cnclip_robertab-cnclip_folders_5fold_lora.py \\
        --cfg-options data.dataset.root=/path/to/class_folders

Reads Chinese. Needs peft: pip install peft. The weights, once, with a network:

    python tools/download.py chinese-clip:ViT-B-16

Expected: not measured; it depends on the images.
"""

_base_ = ["./vitb32-openai_clipb32-openai_folders_5fold_lora.py"]

model = dict(
    image_encoder=dict(type="chinese-clip:ViT-B-16", lora=dict(rank=8)),
    text_encoder=dict(type="chinese-clip:ViT-B-16", freeze="all"),
)
