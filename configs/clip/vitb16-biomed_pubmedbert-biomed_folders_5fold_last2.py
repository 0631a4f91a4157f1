"""The last two blocks of BiomedCLIP ViT-B/16, on class folders of your own, five folds; the text tower is frozen.

    python tools/train.py configs/clip/vitb16-biomed_pubmedbert-biomed_folders_5fold_last2.py \\
        --cfg-options data.dataset.root=/path/to/class_folders

Reads English; it has seen figures of medical papers. The weights, once, with a network:

    python tools/download.py openclip:hf-hub:microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224

Expected: not measured; it depends on the images.
"""

_base_ = ["./vitb32-openai_clipb32-openai_folders_5fold_last2.py"]

model = dict(
    image_encoder=dict(type="openclip:hf-hub:microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224", unfreeze_blocks=2),
    text_encoder=dict(type="openclip:hf-hub:microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224", freeze="all"),
)
