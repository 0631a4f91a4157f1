"""Well-known published models, as plain data: for ``clipzoo models``, for suggestions, and for choosing a model by size or language.

Numbers of parameters are those of both towers, counted on the networks; a licence that is not listed here is on the model's page.
"""

from __future__ import annotations

import re
from dataclasses import astuple, dataclass

SEE_PAGE = "see its page"
# The form of a repository's name, and endings of files of weights, which look like one.
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+", re.ASCII)
_FILES = (".pt", ".pth", ".bin", ".safetensors", ".ckpt", ".tar", ".zip", ".npz")


@dataclass(frozen=True)
class Published:
    """One published model.

    Attributes:
        name: Name of its towers in a config, and of the whole CLIP for ``clipzoo.load`` if it has both.
        image: Image tower in words; empty without one.
        text: Text tower in words; empty without one.
        parameters: Number of parameters of all towers in millions; ``None`` if unknown.
        image_size: Image size in pixels; ``None`` without an image tower.
        language: Language of the captions; empty without a text tower.
        licence: Licence of the weights.
        repository: Repository on the Hugging Face hub, or the server where the file is.
    """

    name: str
    image: str
    text: str
    parameters: float | None
    image_size: int | None
    language: str
    licence: str
    repository: str

    def __str__(self) -> str:
        """All fields in a line, for searching."""
        return " ".join(str(value) for value in astuple(self))


def _openai(variant: str, image: str, parameters: float, image_size: int, repository: str) -> Published:
    return Published(f"clip:{variant}", image, "CLIP's", parameters, image_size, "English", SEE_PAGE, f"timm/{repository}.openai")


def _hf(repository: str, image: str, text: str, parameters: float, image_size: int | None, language: str, licence: str) -> Published:
    return Published(f"hf:{repository}", image, text, parameters, image_size, language, licence, repository)


def _laion(name: str, image: str, parameters: float, image_size: int, repository: str) -> Published:
    return Published(f"openclip:{name}", image, "CLIP's", parameters, image_size, "English", "MIT", f"laion/{repository}")


def _chinese(name: str, image: str, text: str, parameters: float, image_size: int, repository: str) -> Published:
    repository = f"OFA-Sys/chinese-clip-{repository}"
    return Published(f"chinese-clip:{name}", image, text, parameters, image_size, "Chinese", SEE_PAGE, repository)


_APACHE, _MANY, _DINO3 = "Apache 2.0", "many languages", "DINOv3's, to be accepted on its page"
_BIOMED = "microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224"

CATALOGUE: tuple[Published, ...] = (
    # OpenAI's CLIP: Radford et al. 2021.
    _openai("ViT-B/32", "ViT-B/32", 151.3, 224, "vit_base_patch32_clip_224"),
    _openai("ViT-B/16", "ViT-B/16", 149.6, 224, "vit_base_patch16_clip_224"),
    _openai("ViT-L/14", "ViT-L/14", 427.6, 224, "vit_large_patch14_clip_224"),
    _openai("ViT-L/14@336px", "ViT-L/14", 427.9, 336, "vit_large_patch14_clip_336"),
    _openai("RN50", "ResNet-50", 102.0, 224, "resnet50_clip"),
    _openai("RN101", "ResNet-101", 119.7, 224, "resnet101_clip"),
    _openai("RN50x4", "ResNet-50x4", 178.3, 288, "resnet50x4_clip"),
    _openai("RN50x16", "ResNet-50x16", 291.0, 384, "resnet50x16_clip"),
    _openai("RN50x64", "ResNet-50x64", 623.3, 448, "resnet50x64_clip"),
    _hf("openai/clip-vit-base-patch32", "ViT-B/32", "CLIP's", 151.3, 224, "English", SEE_PAGE),
    _hf("openai/clip-vit-base-patch16", "ViT-B/16", "CLIP's", 149.6, 224, "English", SEE_PAGE),
    _hf("openai/clip-vit-large-patch14", "ViT-L/14", "CLIP's", 427.6, 224, "English", SEE_PAGE),
    _hf("openai/clip-vit-large-patch14-336", "ViT-L/14", "CLIP's", 427.9, 336, "English", SEE_PAGE),
    # open_clip on LAION-2B and DataComp: Cherti et al. 2023, Gadre et al. 2023.
    _laion("ViT-B-32/laion2b_s34b_b79k", "ViT-B/32", 151.3, 224, "CLIP-ViT-B-32-laion2B-s34B-b79K"),
    _laion("ViT-B-16/laion2b_s34b_b88k", "ViT-B/16", 149.6, 224, "CLIP-ViT-B-16-laion2B-s34B-b88K"),
    _laion("ViT-L-14/laion2b_s32b_b82k", "ViT-L/14", 427.6, 224, "CLIP-ViT-L-14-laion2B-s32B-b82K"),
    _laion("ViT-H-14/laion2b_s32b_b79k", "ViT-H/14", 986.1, 224, "CLIP-ViT-H-14-laion2B-s32B-b79K"),
    _laion("ViT-g-14/laion2b_s34b_b88k", "ViT-g/14", 1366.7, 224, "CLIP-ViT-g-14-laion2B-s34B-b88K"),
    _laion("ViT-bigG-14/laion2b_s39b_b160k", "ViT-G/14", 2539.6, 224, "CLIP-ViT-bigG-14-laion2B-39B-b160k"),
    _laion("convnext_base_w/laion2b_s13b_b82k", "ConvNeXt-B", 179.4, 256, "CLIP-convnext_base_w-laion2B-s13B-b82K"),
    _laion("ViT-B-32/datacomp_xl_s13b_b90k", "ViT-B/32", 151.3, 224, "CLIP-ViT-B-32-DataComp.XL-s13B-b90K"),
    _laion("ViT-B-32-256/datacomp_s34b_b86k", "ViT-B/32", 151.3, 256, "CLIP-ViT-B-32-256x256-DataComp-s34B-b86K"),
    _laion("ViT-B-16/datacomp_xl_s13b_b90k", "ViT-B/16", 149.6, 224, "CLIP-ViT-B-16-DataComp.XL-s13B-b90K"),
    _laion("ViT-L-14/datacomp_xl_s13b_b90k", "ViT-L/14", 427.6, 224, "CLIP-ViT-L-14-DataComp.XL-s13B-b90K"),
    # SigLIP: Zhai et al. 2023; SigLIP 2: Tschannen et al. 2025.
    _hf("google/siglip-base-patch16-224", "ViT-B/16", "SigLIP's", 203.2, 224, "English", _APACHE),
    _hf("google/siglip-base-patch16-256", "ViT-B/16", "SigLIP's", 203.2, 256, "English", _APACHE),
    _hf("google/siglip-base-patch16-384", "ViT-B/16", "SigLIP's", 203.4, 384, "English", _APACHE),
    _hf("google/siglip-base-patch16-256-multilingual", "ViT-B/16", "SigLIP's", 370.6, 256, _MANY, _APACHE),
    _hf("google/siglip-large-patch16-256", "ViT-L/16", "SigLIP's", 652.2, 256, "English", _APACHE),
    _hf("google/siglip-large-patch16-384", "ViT-L/16", "SigLIP's", 652.5, 384, "English", _APACHE),
    _hf("google/siglip-so400m-patch14-224", "SoViT-400m/14", "SigLIP's", 877.4, 224, "English", _APACHE),
    _hf("google/siglip-so400m-patch14-384", "SoViT-400m/14", "SigLIP's", 878.0, 384, "English", _APACHE),
    _hf("google/siglip2-base-patch32-256", "ViT-B/32", "SigLIP's", 376.9, 256, _MANY, _APACHE),
    _hf("google/siglip2-base-patch16-224", "ViT-B/16", "SigLIP's", 375.2, 224, _MANY, _APACHE),
    _hf("google/siglip2-large-patch16-256", "ViT-L/16", "SigLIP's", 881.5, 256, _MANY, _APACHE),
    _hf("google/siglip2-so400m-patch14-224", "SoViT-400m/14", "SigLIP's", 1135.5, 224, _MANY, _APACHE),
    _hf("google/siglip2-giant-opt-patch16-256", "ViT-g-opt/16", "SigLIP's", 1871.4, 256, _MANY, _APACHE),
    # Chinese-CLIP: Yang et al. 2022.
    _chinese("ViT-B-16", "ViT-B/16", "RoBERTa-wwm base", 188.3, 224, "vit-base-patch16"),
    _chinese("ViT-L-14", "ViT-L/14", "RoBERTa-wwm base", 406.2, 224, "vit-large-patch14"),
    _chinese("ViT-L-14-336", "ViT-L/14", "RoBERTa-wwm base", 406.6, 336, "vit-large-patch14-336px"),
    _chinese("ViT-H-14", "ViT-H/14", "RoBERTa-wwm large", 957.6, 224, "vit-huge-patch14"),
    # Medicine: Zhang et al. 2023 (arXiv:2303.00915), Eslami et al. 2023.
    Published(f"openclip:hf-hub:{_BIOMED}", "ViT-B/16", "PubMedBERT", 195.9, 224, "English, biomedical", "MIT", _BIOMED),
    _hf("flaviagiammarino/pubmed-clip-vit-base-patch32", "ViT-B/32", "CLIP's", 151.3, 224, "English, biomedical", "MIT"),
    # Image towers alone: Oquab et al. 2023, Siméoni et al. 2025.
    _hf("facebook/dinov2-small", "ViT-S/14", "", 22.1, 224, "", _APACHE),
    _hf("facebook/dinov2-base", "ViT-B/14", "", 86.6, 224, "", _APACHE),
    _hf("facebook/dinov2-large", "ViT-L/14", "", 304.4, 224, "", _APACHE),
    _hf("facebook/dinov2-giant", "ViT-g/14", "", 1136.5, 224, "", _APACHE),
    _hf("facebook/dinov3-vits16-pretrain-lvd1689m", "ViT-S/16", "", 21.6, 224, "", _DINO3),
    _hf("facebook/dinov3-vitb16-pretrain-lvd1689m", "ViT-B/16", "", 85.7, 224, "", _DINO3),
    _hf("facebook/dinov3-vitl16-pretrain-lvd1689m", "ViT-L/16", "", 303.1, 224, "", _DINO3),
    # Text towers alone.
    Published("bert-base-chinese", "", "BERT base", 101.7, None, "Chinese", SEE_PAGE, "google-bert/bert-base-chinese"),
    _hf("hfl/chinese-roberta-wwm-ext", "", "RoBERTa-wwm base", 101.7, None, "Chinese", _APACHE),
)
REPOSITORIES: tuple[str, ...] = tuple(dict.fromkeys(published.repository for published in CATALOGUE))


def is_repository_name(text: str) -> bool:
    """Whether ``text`` has the form of a repository's name, ``organisation/name``, and means nothing else.

    >>> is_repository_name("openai/clip-vit-base-patch32"), is_repository_name("weights/clip.pt"), is_repository_name("ViT-B/32")
    (True, False, False)
    """
    return bool(_REPOSITORY.fullmatch(text)) and not text.endswith(_FILES) and with_prefix(text) is None


def with_prefix(text: str) -> str | None:
    """The name in the catalogue that is ``text`` behind a prefix, such as ``clip:``; ``None`` if there is none."""
    return next((published.name for published in CATALOGUE if published.name in (f"clip:{text}", f"openclip:{text}")), None)
