"""The catalogue agrees with the libraries' own lists, and its numbers with the networks."""

import copy

import pytest
import torch
from open_clip import get_model_config
from open_clip.model import CLIP, CustomTextCLIP
from open_clip.pretrained import get_pretrained_cfg

from clipzoo.models.catalogue import CATALOGUE
from clipzoo.models.names import image_encoder, text_encoder
from clipzoo.models.published import known_models

# A SigLIP of transformers has the sizes of the one of the same name in open_clip's list, SigLIP's text towers included.
SIGLIPS = {
    "siglip-base-patch16-224": "ViT-B-16-SigLIP",
    "siglip-base-patch16-256": "ViT-B-16-SigLIP-256",
    "siglip-base-patch16-384": "ViT-B-16-SigLIP-384",
    "siglip-base-patch16-256-multilingual": "ViT-B-16-SigLIP-i18n-256",
    "siglip-large-patch16-256": "ViT-L-16-SigLIP-256",
    "siglip-large-patch16-384": "ViT-L-16-SigLIP-384",
    "siglip-so400m-patch14-224": "ViT-SO400M-14-SigLIP",
    "siglip-so400m-patch14-384": "ViT-SO400M-14-SigLIP-384",
    "siglip2-base-patch32-256": "ViT-B-32-SigLIP2-256",
    "siglip2-base-patch16-224": "ViT-B-16-SigLIP2",
    "siglip2-large-patch16-256": "ViT-L-16-SigLIP2-256",
    "siglip2-so400m-patch14-224": "ViT-SO400M-14-SigLIP2",
    "siglip2-giant-opt-patch16-256": "ViT-gopt-16-SigLIP2-256",
}
CLIPS = {"base-patch32": "ViT-B-32", "base-patch16": "ViT-B-16", "large-patch14": "ViT-L-14", "large-patch14-336": "ViT-L-14-336"}


def of_open_clip(published):
    """The name in open_clip's list of a network of the same sizes; ``None`` if it has none."""
    kind, _, name = published.name.partition(":")
    if kind == "clip":
        return name.replace("/", "-").replace("@336px", "-336")
    if kind == "openclip" and not name.startswith("hf-hub:"):
        return name.partition("/")[0]
    if "/siglip" in name:
        return SIGLIPS[name.partition("/")[2]]
    sizes = name.partition("clip-vit-")[2]
    return CLIPS.get(sizes) if kind == "hf" else None


@pytest.mark.parametrize("published", CATALOGUE, ids=lambda published: published.name)
def test_every_name_is_one_of_a_config(published):
    specs = []
    for words, spell in ((published.image, image_encoder), (published.text, text_encoder)):
        if words:
            specs.append(spell(published.name))
            assert specs[-1].get("pretrained", specs[-1].get("tag"))
    assert specs
    if published.name.startswith(("hf:", "openclip:hf-hub:", "chinese-clip:")):
        assert published.repository in {value for spec in specs for value in spec.values()} | {
            str(value).removeprefix("hf-hub:") for spec in specs for value in spec.values()
        }


@pytest.mark.parametrize(
    "published", [p for p in CATALOGUE if p.name.startswith(("clip:", "openclip:ViT", "openclip:conv"))], ids=lambda p: p.name
)
def test_repositories_are_those_of_open_clips_list(published):
    tag = published.name.partition("/")[2] if published.name.startswith("openclip:") else "openai"
    assert get_pretrained_cfg(of_open_clip(published), tag)["hf_hub"].strip("/") == published.repository


@pytest.mark.slow
@pytest.mark.parametrize("published", [p for p in CATALOGUE if of_open_clip(p)], ids=lambda p: p.name)
def test_parameters_and_sizes_are_those_of_the_networks(published):
    config = copy.deepcopy(get_model_config(of_open_clip(published)))
    custom = config.pop("custom_text", False)
    with torch.device("meta"):
        model = (CustomTextCLIP if custom else CLIP)(**config)
    assert sum(parameter.numel() for parameter in model.parameters()) / 1e6 == pytest.approx(published.parameters, abs=0.06)
    assert config["vision_cfg"]["image_size"] == published.image_size


def test_names_are_unique_and_open_clips_list_is_complete():
    from open_clip import list_pretrained

    names = [published.name for published in known_models()]
    assert len(names) == len(set(names))
    assert {f"openclip:{name}/{tag}" for name, tag in list_pretrained()} <= set(names)
