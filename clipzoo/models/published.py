"""Published models by name: what is known, what is in the local cache, and loading it there ahead of time."""

from __future__ import annotations

import contextlib
import os
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from clipzoo.config.registry import Registry
from clipzoo.errors import BuildError, ConfigError, RegistryError, first_line
from clipzoo.models.catalogue import CATALOGUE, SEE_PAGE, Published
from clipzoo.models.layout.open_clip import WEIGHTS as OPEN_CLIP_WEIGHTS
from clipzoo.models.tower import Tower
from clipzoo.models.weights.hub import without_network
from clipzoo.models.weights.hugging_face import takes_images
from clipzoo.models.weights.transformers_format import WEIGHTS as TRANSFORMERS_WEIGHTS
from clipzoo.registries import BACKBONES, TEXT_ENCODERS


@dataclass(frozen=True)
class Downloaded:
    """Towers whose files are in the local cache.

    Attributes:
        towers: Image tower, text tower, or both.
        was_there: Whether everything was in the cache before.
        folder: Folder of the cache.
    """

    towers: tuple[Tower, ...]
    was_there: bool
    folder: Path


def known_models() -> tuple[Published, ...]:
    """The catalogue, and all other models in open_clip's own list of published weights."""
    names = {published.name for published in CATALOGUE}
    return (*CATALOGUE, *(published for published in _of_open_clip() if published.name not in names))


def is_cached(published: Published) -> bool:
    """Whether the weights of a model are in the local cache."""
    from huggingface_hub import try_to_load_from_cache

    if published.repository.count("/") != 1:  # a file from another server, in open_clip's own cache
        return Path(f"~/.cache/clip/{os.path.basename(published.repository)}").expanduser().is_file()
    of_open_clip = published.name.startswith(("clip:", "openclip:"))
    whole = OPEN_CLIP_WEIGHTS if of_open_clip else TRANSFORMERS_WEIGHTS
    names = [*whole, *(f"{name}.index.json" for name in TRANSFORMERS_WEIGHTS)]
    repositories = {published.repository, published.repository.removeprefix("google-bert/")}
    return any(isinstance(try_to_load_from_cache(repository, name), str) for repository in repositories for name in names)


def download(name: str) -> Downloaded:
    """Put everything that the towers of a name need into the local cache: weights, configs, tokenizers.

    The towers are built once, which also verifies the files.

    Args:
        name: Name of an image tower, of a text tower, or of both, as in a config.

    Raises:
        ConfigError: The name does not need any file of a hub.
        RegistryError: The name is unknown.
        BuildError: The files are unavailable, or are not usable.
    """
    from huggingface_hub import constants

    specs = _specs(name)
    with contextlib.suppress(BuildError), without_network():
        return Downloaded(_build(specs), True, Path(constants.HF_HUB_CACHE))
    return Downloaded(_build(specs), False, Path(constants.HF_HUB_CACHE))


def unusable(name: str) -> str | None:
    """The reason why the towers of a name cannot be built from the local cache alone, in one line; ``None`` if they can."""
    try:
        with without_network():
            _build(_specs(name))
    except (BuildError, ConfigError, RegistryError) as error:
        return first_line(error)
    return None


def _specs(name: str) -> list[tuple[Registry, dict]]:
    """The towers that have this name."""
    found, problems = [], []
    for registry in (BACKBONES, TEXT_ENCODERS):
        try:
            spec = registry.expand(name)
            registry.get(spec["type"])
        except RegistryError as error:
            problems.append(error)
        else:
            found.append((registry, spec))
    if not found:
        raise problems[0]
    if os.path.exists(name.partition(":")[2]):
        raise ConfigError(f"download: '{name}' is a local file or folder. Name a published model (clipzoo models)")
    if all(spec.get("pretrained", spec.get("tag")) in (False, None) for _, spec in found):
        raise ConfigError(f"download: '{name}' starts from random weights. Add :pretrained, or name published weights (clipzoo models)")
    return found


def _build(specs: list[tuple[Registry, dict]]) -> tuple[Tower, ...]:
    """Build the towers; of a model of transformers that is no CLIP, only the one that it is."""
    if len(specs) == 2 and specs[0][1]["type"] == "HFVision":
        sides = takes_images(specs[0][1]["name"], "HFVision")
        specs = [spec for spec, wanted in zip(specs, sides, strict=True) if wanted]
    return tuple(registry.build(spec) for registry, spec in specs)


def _of_open_clip() -> Iterator[Published]:
    """The models in the list of the installed open_clip."""
    from open_clip import get_model_config
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained

    for name, tag in list_pretrained():
        config, weights = get_model_config(name) or {}, get_pretrained_cfg(name, tag)
        vision, text = config.get("vision_cfg", {}), config.get("text_cfg", {})
        size = vision.get("image_size", 224)
        own = not text.get("hf_tokenizer_name") and not text.get("hf_model_name")
        address = urllib.parse.urlsplit(weights.get("url") or "")
        yield Published(
            name=f"openclip:{name}/{tag}",
            image=vision.get("timm_model_name") or name,
            text="CLIP's" if own else text.get("hf_model_name") or "its own",
            parameters=None,
            image_size=size[0] if isinstance(size, (list, tuple)) else size,
            language="English" if own else SEE_PAGE,
            licence=SEE_PAGE,
            repository=(weights.get("hf_hub") or "").strip("/") or f"{address.netloc}{address.path}",
        )
