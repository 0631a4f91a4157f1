"""The short spellings of towers."""

import subprocess
import sys

import pytest

from clipzoo.errors import RegistryError
from clipzoo.models.names import image_encoder, text_encoder

IMAGES = [
    *(f"resnet{d}" for d in (18, 34, 50, 101, 152)),
    *(f"starnet_{v}" for v in ("s1", "s2", "s3", "s4", "s050", "s100", "s150")),
    *(f"efficientnet-b{i}" for i in range(8)),
    *(f"convnext-{v}" for v in ("tiny", "small", "base", "large")),
    "vit",
]


@pytest.mark.parametrize("name", IMAGES)
def test_every_image_tower_of_the_old_scripts_is_spelled(name):
    random = image_encoder(name)
    assert random["pretrained"] is False
    for suffix, expected in (("pretrained", True), ("true", True), ("false", False), ("scratch", False), ("True", True)):
        assert image_encoder(f"{name}:{suffix}") == {**random, "pretrained": expected}


def test_image_spellings_mean_the_right_tower():
    assert image_encoder("resnet50") == {"type": "ResNet", "depth": 50, "pretrained": False}
    assert image_encoder("efficientnet-b3") == {"type": "EfficientNet", "variant": "b3", "pretrained": False}
    assert image_encoder("efficientnet_b3") == image_encoder("efficientnet-b3")
    assert image_encoder("vit") == {"type": "VisionTransformer", "variant": "base", "pretrained": False}
    assert image_encoder("timm:resnet10t") == {"type": "TimmBackbone", "name": "resnet10t", "pretrained": False}
    assert image_encoder("timm:resnet18.a1_in1k") == {"type": "TimmBackbone", "name": "resnet18.a1_in1k", "pretrained": True}
    assert image_encoder("timm:resnet18.a1_in1k:scratch")["pretrained"] is False
    for name in ("timm:hf-hub:timm/resnet18", "timm/resnet18"):
        assert image_encoder(name) == {"type": "TimmBackbone", "name": "hf-hub:timm/resnet18", "pretrained": True}
    assert image_encoder("timm:hf-hub:a/b:scratch") == {"type": "TimmBackbone", "name": "hf-hub:a/b", "pretrained": False}
    assert image_encoder("timm:./folder") == {"type": "TimmBackbone", "name": "./folder", "pretrained": True}


CLIPS = ("ViT-B/32", "ViT-B/16", "ViT-L/14", "ViT-L/14@336px", "RN50", "RN101", "RN50x4", "RN50x16", "RN50x64")


def test_both_towers_of_a_clip_have_the_same_names():
    from clipzoo.models.weights import source

    assert CLIPS == tuple(source.VISION) == tuple(source.TEXT)
    for variant in CLIPS:
        assert image_encoder(f"clip:{variant}") == {"type": "CLIPVision", "variant": variant, "pretrained": True}
        assert text_encoder(f"clip:{variant}") == {"type": "CLIPText", "variant": variant, "pretrained": True}
        assert image_encoder(f"clip:{variant}:scratch")["pretrained"] is False


@pytest.mark.parametrize(
    ("name", "image", "text"),
    [
        ("openclip:ViT-B-32/laion2b_s34b_b79k", {"name": "ViT-B-32", "tag": "laion2b_s34b_b79k"}, None),
        ("openclip:ViT-B-32/laion2b_s34b_b79k:pretrained", {"name": "ViT-B-32", "tag": "laion2b_s34b_b79k"}, None),
        ("openclip:ViT-B-32/laion2b_s34b_b79k:scratch", {"name": "ViT-B-32"}, None),
        ("openclip:ViT-B-32", {"name": "ViT-B-32"}, None),
        ("openclip:ViT-B-32//data/clip.pt", {"name": "ViT-B-32", "tag": "/data/clip.pt"}, None),
        ("openclip:ViT-B-32/data/clip.pt", {"name": "ViT-B-32", "tag": "data/clip.pt"}, None),
        ("openclip:./siglip", {"name": "./siglip", "pretrained": True}, None),
        ("openclip:/data/siglip:scratch", {"name": "/data/siglip", "pretrained": False}, None),
        (r"openclip:C:\siglip", {"name": r"C:\siglip", "pretrained": True}, None),
        ("weights:clip.pt", {"type": "CLIPVision", "pretrained": "clip.pt"}, {"type": "CLIPText", "pretrained": "clip.pt"}),
        (r"weights:C:\clip", {"type": "CLIPVision", "pretrained": r"C:\clip"}, {"type": "CLIPText", "pretrained": r"C:\clip"}),
        ("openclip:hf-hub:a/b", {"name": "hf-hub:a/b", "pretrained": True}, None),
        ("openclip:hf-hub:a/b:scratch", {"name": "hf-hub:a/b", "pretrained": False}, None),
        ("openclip:modelscope:a/b", {"name": "modelscope:a/b", "pretrained": True}, None),
        ("hf:a/b", {"type": "HFVision", "name": "a/b", "pretrained": True}, {"type": "HFText", "name": "a/b", "pretrained": True}),
        ("a/b:scratch", {"type": "HFVision", "name": "a/b", "pretrained": False}, {"type": "HFText", "name": "a/b", "pretrained": False}),
        (
            "chinese-clip:ViT-L-14",
            {"type": "CLIPVision", "pretrained": "OFA-Sys/chinese-clip-vit-large-patch14"},
            {"type": "BERT", "pretrained": "OFA-Sys/chinese-clip-vit-large-patch14"},
        ),
        ("chinese-clip:a/b.pt", {"type": "CLIPVision", "pretrained": "a/b.pt"}, {"type": "BERT", "pretrained": "a/b.pt"}),
    ],
)
def test_any_clip_is_spelled_alike_for_both_towers(name, image, text):
    assert image_encoder(name) == {"type": "OpenCLIPBackbone", **image}
    assert text_encoder(name) == (text or {**image, "type": "OpenCLIPText"})


def test_text_spellings_mean_the_right_tower():
    assert text_encoder("clip:ViT-B/32") == {"type": "CLIPText", "variant": "ViT-B/32", "pretrained": True}
    assert text_encoder("clip:RN50:scratch") == {"type": "CLIPText", "variant": "RN50", "pretrained": False}
    assert text_encoder("bert-base-chinese") == {"type": "BERT", "name": "bert-base-chinese", "pretrained": True}
    scratch = text_encoder("bert-base-chinese:scratch")
    assert (scratch["pretrained"], scratch["hidden_size"], scratch["num_layers"]) == (False, 768, 12)
    assert text_encoder("bert") == text_encoder("bert:scratch") == {"type": "BERT", "pretrained": False}
    assert text_encoder("hf:hfl/rbt3") == {"type": "HFText", "name": "hfl/rbt3", "pretrained": True}
    assert text_encoder(r"hf:C:\models\bert:false") == {"type": "HFText", "name": r"C:\models\bert", "pretrained": False}


@pytest.mark.parametrize(
    ("spell", "name", "words"),
    [
        (image_encoder, "mobilenetv3_small_050:scratch", "Did you mean 'timm:mobilenetv3_small_050:scratch'?"),
        (image_encoder, "resnet19", "Did you mean 'resnet18'"),
        (image_encoder, "resnet", "Did you mean 'resnet"),
        (image_encoder, "ResNet18", "Did you mean 'resnet18'"),
        (image_encoder, "resnet18:pretraind", "unknown suffix ':pretraind'. Did you mean 'pretrained'"),
        (image_encoder, "timm:", "timm:<name>"),
        (image_encoder, "clip:ViT-B-32x", "Did you mean 'clip:ViT-B/32'"),
        (image_encoder, "clip:model.pt", "weights:<file or folder>"),
        (image_encoder, "openclip:", "openclip:<name>/<tag>"),
        (image_encoder, "ViT-B/32", "Did you mean 'clip:ViT-B/32'"),
        (image_encoder, "weights/clip.pt", "weights:<file or folder>"),
        (text_encoder, "chinese-clip:RN50", "Download clip_cn_rn50.pt, and pass chinese-clip:<file>"),
        (text_encoder, "timm/resnet18", "hf:<name or folder>"),
        (text_encoder, "openclip:ViT-B-32:pretrained", "Use openclip:ViT-B-32/<tag>"),
        (text_encoder, "weights:clip.pt:scratch", "as clip:ViT-B/32:scratch"),
        (text_encoder, "clip:ViT-B-32", "Did you mean 'clip:ViT-B/32'"),
        (text_encoder, "bert-base-chinse", "Did you mean 'bert-base-chinese'"),
        (text_encoder, "bert:pretrained", "without published weights"),
        (text_encoder, "qqq", "hf:<name or folder>"),
    ],
)
def test_a_mistyped_name_says_what_was_meant(spell, name, words):
    with pytest.raises(RegistryError) as raised:
        spell(name)
    assert words in str(raised.value) and "\n" not in str(raised.value)


def test_class_names_are_left_to_the_registry():
    assert image_encoder("ResNett") is None
    assert text_encoder("MyText") is None


def test_spelling_imports_nothing_heavy():
    """Checked in a process of its own: names must be understood before torch is needed."""
    code = (
        "import sys, types; p = types.ModuleType('clipzoo.models'); p.__path__ = [sys.argv[1]]; sys.modules['clipzoo.models'] = p; "
        "import clipzoo.models.names; sys.exit(any(m in sys.modules for m in ('torch', 'timm', 'transformers', 'open_clip')))"
    )
    import clipzoo.models

    assert subprocess.run([sys.executable, "-c", code, clipzoo.models.__path__[0]], check=False).returncode == 0
