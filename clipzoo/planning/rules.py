"""The rules by which ``clipzoo init`` chooses a config, as plain data. Nothing is searched and nothing is trained.

Topics are decided from top to bottom, each by its first rule whose conditions all hold, and later topics may ask what an earlier one chose.
The limits are rules of thumb for small labelled sets, not measured optima. In the spirit of nnU-Net's planning: Isensee et al. 2021
(doi:10.1038/s41592-020-01008-z).
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

# What the conditions are about, in words. "smallest" is in groups because whole groups go into a fold.
FACTS: dict[str, str] = {
    "data": "data",
    "images": "images",
    "smallest": "patients of the rarest class (without classes: all)",
    "imbalance": "largest / smallest class",
    "repeated": "patients with several images",
    "mixed": "patients with images of two classes",
    "pixels": "median longer side in pixels",
    "start": "start",
    "device": "device",
    "memory": "GPU memory in GB",
    "peft": "peft",
    "adaptation": "adaptation",
}
_RELATIONS = {"<": operator.lt, ">=": operator.ge, "is": operator.eq, "is not": operator.ne}
Condition = tuple[str, Literal["<", ">=", "is", "is not"], object]


@dataclass(frozen=True)
class Found:
    """Stands in a choice for a fact of the same data, such as the name of a model in the cache."""

    fact: str


@dataclass(frozen=True)
class Rule:
    """One row of the table.

    Attributes:
        topic: What is decided.
        when: Conditions, all of which must hold: a fact, a relation, a value. Empty: in all other cases.
        name: The choice in words; later rules refer to it as the fact called like the topic.
        choice: Values by dotted config key; empty keeps what other rules or the defaults say.
        reason: Why.
    """

    topic: str
    when: tuple[Condition, ...]
    name: str
    choice: Mapping[str, object] = field(default_factory=dict)
    reason: str = ""

    def applies(self, facts: Mapping[str, object]) -> bool:
        """Whether all conditions hold."""
        return all(_RELATIONS[relation](facts[fact], value) for fact, relation, value in self.when)

    def condition(self) -> str:
        """The conditions in words.

        >>> Rule('folds', (('images', '<', 50), ('data', 'is', 'pairs')), '2 folds').condition()
        'images < 50, data is pairs'
        """
        return ", ".join(_in_words(*condition) for condition in self.when) or "otherwise"


def _in_words(fact: str, relation: str, value: object) -> str:
    """One condition; of a fact that is "yes" or "no", whether there are such."""
    yes_or_no = {"yes": FACTS[fact], "no": f"no {FACTS[fact]}"}
    return yes_or_no.get(value, f"{FACTS[fact]} {relation} {value}")


_SMALL_TEXT = {
    "model.text_encoder.type": "BERT",
    "model.text_encoder.pretrained": False,
    "model.text_encoder.pooling": "mean",
    "model.text_encoder.hidden_size": 128,
    "model.text_encoder.num_layers": 2,
    "model.text_encoder.num_heads": 4,
}
_ONE_SPACE = {"model.type": "CLIP", "model.image_encoder.type": Found("model"), "model.text_encoder.type": Found("model")}
_HEAD = {"model.type": "ImageClassifier", "model.image_encoder.freeze": "all", "model.head.type": "CosineHead"}
_CLIP, _TOWER, _RANDOM = "published CLIP", "published image tower", "random weights"
_CPU, _PAIRS = ("device", "is", "CPU"), ("data", "is", "pairs")
_START_CLIP, _FEW = ("start", "is", _CLIP), ("images", "<", 1000)


def _adaptation(name: str) -> Condition:
    return "adaptation", "is", name


RULES: tuple[Rule, ...] = (
    Rule("towers", (_START_CLIP,), "both towers of a published CLIP", _ONE_SPACE, "it is in the local cache and reads the language"),
    Rule(
        "towers",
        (("start", "is", _TOWER),),
        "a published image tower, a small text tower",
        {"model.type": "CLIP", "model.image_encoder.type": Found("model"), **_SMALL_TEXT},
        "no CLIP that reads the language is in the local cache, but this image tower is",
    ),
    Rule(
        "towers",
        (),
        "ResNet-18 and a small text tower, random weights",
        {"model.type": "CLIP", "model.image_encoder.type": "ResNet", "model.image_encoder.depth": 18, **_SMALL_TEXT},
        "no published model is in the local cache; this pair needs no download, and is only a start",
    ),
    Rule("adaptation", (("start", "is", _RANDOM),), "all blocks from scratch", {}, "random weights have to be learned"),
    Rule(
        "adaptation",
        (_START_CLIP, _CPU, ("data", "is not", "pairs")),
        "head on frozen features",
        _HEAD,
        "without a GPU: every image is encoded once, and the head starts from the class captions",
    ),
    Rule(
        "adaptation",
        (_CPU, ("data", "is not", "pairs")),
        "projection of frozen features",
        {"model.image_encoder.freeze": "all"},
        "without a GPU: every image is encoded once",
    ),
    Rule("adaptation", (_CPU,), "last block", {"model.image_encoder.unfreeze_blocks": 1}, "without a GPU, gradients through more are slow"),
    Rule(
        "adaptation",
        (_FEW, ("peft", "is", "yes")),
        "LoRA",
        {"model.image_encoder.lora": {"rank": 8}},
        "few images: low-rank adapters change little of what the tower knows",
    ),
    Rule("adaptation", (_FEW,), "last 2 blocks", {"model.image_encoder.unfreeze_blocks": 2}, "few images; peft (LoRA) is not installed"),
    Rule(
        "adaptation",
        (("images", "<", 10_000),),
        "last 4 blocks",
        {"model.image_encoder.unfreeze_blocks": 4},
        "enough images for some blocks, too few for all",
    ),
    Rule("adaptation", (), "all blocks", {}, "enough images"),
    Rule("text tower", (("start", "is not", _CLIP),), "all of it", {}, "random weights have to be learned"),
    Rule(
        "text tower",
        (("data", "is not", "pairs"),),
        "frozen",
        {"model.text_encoder.freeze": "all"},
        "a few class captions would be learned by heart",
    ),
    Rule("text tower", (_FEW,), "frozen", {"model.text_encoder.freeze": "all"}, "few captions would be learned by heart"),
    Rule("text tower", (), "last 2 blocks", {"model.text_encoder.unfreeze_blocks": 2}, "enough captions to adapt to their style"),
    Rule("image size", (("start", "is not", _RANDOM),), "that of the weights", {}, "a published tower knows its size"),
    Rule("image size", (("pixels", "<", 48),), "32 px", {"model.image_encoder.image_size": 32}, "the images are not larger"),
    Rule("image size", (("pixels", "<", 96),), "64 px", {"model.image_encoder.image_size": 64}, "the images are not larger"),
    Rule("image size", (_CPU,), "128 px", {"model.image_encoder.image_size": 128}, "224 px take three times as long without a GPU"),
    Rule("image size", (), "224 px", {"model.image_encoder.image_size": 224}, "the usual size"),
    Rule(
        "learning rate",
        (_adaptation("all blocks from scratch"),),
        "1e-3",
        {"optimizer.type": "AdamW", "optimizer.lr": 1e-3, "optimizer.weight_decay": 0.05},
        "random weights",
    ),
    Rule(
        "learning rate",
        (_adaptation("head on frozen features"),),
        "1e-3",
        {"optimizer.type": "AdamW", "optimizer.lr": 1e-3},
        "only the head is trained",
    ),
    Rule(
        "learning rate",
        (("start", "is not", _CLIP),),
        "3e-4",
        {"optimizer.type": "AdamW", "optimizer.lr": 3e-4, "optimizer.weight_decay": 0.05},
        "the text tower and the projections start from random weights",
    ),
    Rule("learning rate", (_adaptation("LoRA"),), "2e-4", {"optimizer.type": "AdamW", "optimizer.lr": 2e-4}, "adapters start from zero"),
    Rule(
        "learning rate",
        (),
        "1e-5",
        {"optimizer.type": "AdamW", "optimizer.lr": 1e-5},
        "published weights should change little",
    ),
    Rule("epochs", (_adaptation("head on frozen features"),), "50", {"train.epochs": 50}, "seconds each with frozen features"),
    Rule("epochs", (("start", "is", _RANDOM), _CPU, ("images", "<", 500)), "40", {"train.epochs": 40}, "a first result soon"),
    Rule("epochs", (("start", "is", _RANDOM), _CPU), "20", {"train.epochs": 20}, "a first result soon"),
    Rule("epochs", (("start", "is not", _CLIP), ("images", "<", 500)), "100", {"train.epochs": 100}, "few steps per epoch"),
    Rule("epochs", (("start", "is not", _CLIP), ("images", "<", 2000)), "60", {"train.epochs": 60}, "some random weights, more steps"),
    Rule("epochs", (("start", "is not", _CLIP), ("images", "<", 10_000)), "30", {"train.epochs": 30}, "many steps per epoch"),
    Rule("epochs", (("images", "<", 500),), "30", {"train.epochs": 30}, "few steps per epoch"),
    Rule("epochs", (("images", "<", 2000),), "20", {"train.epochs": 20}, "fine-tuning ends early"),
    Rule("epochs", (), "10", {"train.epochs": 10}, "many steps per epoch"),
    Rule("schedule", (), "cosine with warm-up", {"schedule.type": "CosineSchedule", "schedule.warmup_epochs": 1}, "a common default"),
    Rule("batch size", (("images", "<", 64),), "8", {"data.batch_size": 8}, "at least a few steps per epoch"),
    Rule("batch size", (("images", "<", 256),), "16", {"data.batch_size": 16}, "at least a few steps per epoch"),
    Rule("batch size", (_CPU,), "32", {"data.batch_size": 32}, "larger batches are not faster without a GPU"),
    Rule("batch size", (("memory", "<", 8),), "16", {"data.batch_size": 16}, "a ViT-B at 224 px should fit"),
    Rule("batch size", (_FEW,), "32", {"data.batch_size": 32}, "at least twenty steps per epoch"),
    Rule("batch size", (("memory", "<", 16),), "32", {"data.batch_size": 32}, "a ViT-B at 224 px should fit"),
    Rule("batch size", (("memory", "<", 40),), "64", {"data.batch_size": 64}, "a ViT-B at 224 px should fit"),
    Rule("batch size", (), "128", {"data.batch_size": 128}, "much memory, many images; more negatives"),
    Rule("folds", (("data", "is", "given parts"),), "the given parts", {"splits.type": "AsGiven"}, "the folders say what is tested"),
    Rule(
        "folds",
        (_PAIRS, ("images", ">=", 5000)),
        "one split, a fifth is tested",
        {"splits.type": "Holdout", "splits.test_fraction": 0.2},
        "enough images for one test part; five runs would take long",
    ),
    *(
        Rule(
            "folds",
            (("smallest", "<", k + 1),),
            f"{k} folds of whole patients",
            {"splits.type": "StratifiedGroupKFold", "splits.num_folds": k},
            "every fold tests a patient of the rarest class",
        )
        for k in (2, 3, 4)
    ),
    Rule(
        "folds",
        (),
        "5 folds of whole patients",
        {"splits.type": "StratifiedGroupKFold", "splits.num_folds": 5},
        "every case is tested once, and images of a patient stay together",
    ),
    Rule(
        "val part",
        (("smallest", "<", 20),),
        "0.2 of the training part",
        {"splits.val_fraction": 0.2},
        "a tenth would have hardly any case of the rarest class",
    ),
    Rule("val part", (), "0.1 of the training part", {"splits.val_fraction": 0.1}, "enough to choose the epoch"),
    Rule("balance", (_PAIRS,), "none", {}, "no classes"),
    Rule(
        "balance",
        (("imbalance", ">=", 2),),
        "rare classes are drawn more often",
        {"data.sampler.type": "WeightedSampler", "data.sampler.method": "inverse_freq"},
        "otherwise the largest class wins",
    ),
    Rule("balance", (), "none", {}, "the classes are about equally large"),
    Rule("unit", (_PAIRS,), "image", {}, "retrieval is scored by image"),
    Rule("unit", (("repeated", "is", "no"),), "image", {}, "every patient has one image"),
    Rule("unit", (("mixed", "is", "yes"),), "image", {}, "patients have images of different classes; intervals are by patient"),
    Rule("unit", (), "patient", {"evaluation.unit": "group"}, "patients have several images: their probabilities are averaged"),
    Rule(
        "augmentation",
        (_CPU, ("start", "is not", _RANDOM), ("data", "is not", "pairs")),
        "none",
        {"data.augmentation": "none"},
        "so that every image is encoded only once",
    ),
    Rule("augmentation", (("pixels", "<", 48),), "minimal", {"data.augmentation": "minimal"}, "tiny images bear no rotation"),
    Rule(
        "augmentation",
        (),
        "standard",
        {"data.augmentation": "standard"},
        "small rotations, shifts and exposure; no mirroring, which makes left and right untrue",
    ),
    Rule("workers", (("pixels", "<", 48),), "none", {"data.num_workers": 0}, "tiny images are read faster than they are passed on"),
    Rule("workers", (), "one per core, at most 4", {"data.num_workers": Found("num_workers")}, "reading and training at the same time"),
)

# Published CLIPs in the order in which they are looked for in the local cache; the first one is proposed for download.
CLIPS: dict[str, tuple[str, ...]] = {
    "Chinese": (
        "chinese-clip:ViT-B-16",
        "chinese-clip:ViT-L-14",
        "hf:google/siglip2-base-patch16-224",
        "hf:google/siglip-base-patch16-256-multilingual",
    ),
    "English, radiographs": (
        "openclip:hf-hub:microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
        "hf:flaviagiammarino/pubmed-clip-vit-base-patch32",
        "clip:ViT-B/16",
        "clip:ViT-B/32",
        "hf:openai/clip-vit-base-patch16",
        "hf:openai/clip-vit-base-patch32",
        "openclip:ViT-B-16/laion2b_s34b_b88k",
        "openclip:ViT-B-32/laion2b_s34b_b79k",
    ),
    "English": (
        "clip:ViT-B/16",
        "clip:ViT-B/32",
        "hf:openai/clip-vit-base-patch16",
        "hf:openai/clip-vit-base-patch32",
        "openclip:ViT-B-16/laion2b_s34b_b88k",
        "openclip:ViT-B-32/laion2b_s34b_b79k",
        "hf:google/siglip-base-patch16-224",
        "hf:google/siglip2-base-patch16-224",
    ),
}
# Image towers for when there is no CLIP: the name, and the repository of its weights.
IMAGE_TOWERS: tuple[tuple[str, str], ...] = (
    ("hf:facebook/dinov2-small", "facebook/dinov2-small"),
    ("hf:facebook/dinov2-base", "facebook/dinov2-base"),
    ("timm:resnet50.a1_in1k", "timm/resnet50.a1_in1k"),
    ("timm:resnet18.a1_in1k", "timm/resnet18.a1_in1k"),
    ("timm:efficientnet_b0.ra_in1k", "timm/efficientnet_b0.ra_in1k"),
    ("clip:ViT-B/16", "timm/vit_base_patch16_clip_224.openai"),
    ("clip:ViT-B/32", "timm/vit_base_patch32_clip_224.openai"),
)


def table() -> list[tuple[str, str, str, str]]:
    """The rules as rows: topic, condition, choice, reason."""
    return [(rule.topic, rule.condition(), rule.name, rule.reason) for rule in RULES]
