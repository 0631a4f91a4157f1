"""A cosine head on the frozen image tower of BiomedCLIP ViT-B/16, on class folders of your own, five folds.

    python tools/train.py configs/classification/vitb16-biomed_cosine_folders_5fold_frozen.py \\
        --cfg-options data.dataset.root=/path/to/class_folders

The head starts from the class captions, so it starts as zero-shot classification. Without augmentation every image is encoded once.
Reads English; it has seen figures of medical papers. The weights, once, with a network:

    python tools/download.py openclip:hf-hub:microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224

Expected: not measured; it depends on the images.
"""

_base_ = ["./vitb32-openai_cosine_folders_5fold_frozen.py"]

model = dict(
    image_encoder=dict(type="openclip:hf-hub:microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224", freeze="all"),
    text_encoder="openclip:hf-hub:microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
)
