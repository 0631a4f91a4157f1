"""Any model in open_clip's list: its configuration, and one tower's part of its weights. The other tower is not built."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from torch import Tensor

from clipzoo.errors import BuildError, DataError, did_you_mean, first_line, shortened
from clipzoo.files import read_json
from clipzoo.models.layout.open_clip import CONFIG, WEIGHTS, preprocessing_of
from clipzoo.models.weights.files import read_state_dict
from clipzoo.models.weights.hub import from_hub, hub_folder, local_name
from clipzoo.models.weights.open_clip_format import weights_in
from clipzoo.models.weights.source import openai_preprocessing, published_file, space_of
from clipzoo.structures import Preprocessing

_TEXT_NAMES = ("token_embedding.", "positional_embedding", "transformer.", "ln_final.", "text_projection", "cls_emb")
HUB = "hf-hub:"  # before the name of a repository, as in open_clip
_OPENAI_MARK = "input_resolution"  # only in OpenAI's own files, whose models were trained with QuickGELU


@dataclass(frozen=True)
class OpenCLIPModel:
    """open_clip's information about a model.

    Attributes:
        name: Name as written by the user.
        config: open_clip's model configuration: ``embed_dim``, ``vision_cfg``, ``text_cfg`` and more.
        folder: Folder that contains the model and its tokenizer; ``None`` for a model in the list.
        weights: Weight file; ``None`` for random weights.
        preprocessing: Preprocessing that the weights were trained with; ``None`` if undefined.
        default: Preprocessing if undefined: that of all published weights of this name, if they agree.
        space: Joint space; see ``Tower``.
        origin: Origin of the weights, for the log.
    """

    name: str
    config: dict
    folder: str | None = None
    weights: Path | None = None
    preprocessing: Preprocessing | None = None
    default: Preprocessing = openai_preprocessing("pad")
    space: str | None = None
    origin: str = "random"

    @property
    def quick_gelu(self) -> bool:
        """Whether the CLIP transformers of this model use QuickGELU."""
        return bool(self.config.get("quick_gelu", False))

    def part(self, which: Literal["visual", "text"], where: str) -> tuple[dict[str, Tensor], float | None, float | None]:
        """One tower's tensors without prefix, in fp32, and the model's log scale and bias.

        Raises:
            BuildError: The file is unreadable, in another library's format, or contradicts the configuration.
        """
        state = read_state_dict(self.weights, where)
        if _OPENAI_MARK in state and not self.quick_gelu:
            raise BuildError(f"{where}: {self.weights} is an OpenAI file, trained with QuickGELU. {_other_activation(self.name, True)}")
        texts = {key for key in state if key.startswith(("text.", *_TEXT_NAMES))}
        if not any(key.startswith("visual.") for key in state) or not texts:
            raise BuildError(f"{where}: {self.weights} is not in open_clip's format; its tensors are {shortened(state, 3)}")
        keys = texts if which == "text" else {key for key in state if key.startswith("visual.")}
        own = {key.removeprefix(f"{which}."): state[key] for key in state if key in keys and not key.endswith(".position_ids")}
        scalars = (float(state[key].reshape(-1)[0]) if key in state else None for key in ("logit_scale", "logit_bias"))
        return (own, *scalars)


def open_clip_model(where: str, name: str, tag: str | None, pretrained: bool, config: dict | None) -> OpenCLIPModel:
    """Look up a model, and get its weights from the hub if requested.

    Args:
        where: Start of a message: the class that requests the model.
        name: Name in open_clip's list, ``hf-hub:`` and a repository with ``open_clip_config.json`` and weights, or a folder with them.
        tag: Tag of published weights, or a local file; ``None`` for random weights, or the folder's.
        pretrained: ``False`` for random weights, whatever ``name`` and ``tag`` are.
        config: Model configuration; ``name`` is then not looked up, and weights are random.

    Raises:
        BuildError: The model or its weights do not exist, or the weights were trained with another activation.
    """
    if config is not None:
        _check_config(where, name, config)
        return OpenCLIPModel(name, copy.deepcopy(config))
    if name.startswith(HUB):
        return _from_repository(where, name, tag, pretrained)
    folder = Path(local_name(name, where))
    if folder.is_dir():
        return _from_folder(where, name, folder, tag, pretrained)
    from open_clip import get_model_config, list_models

    known = list_models()
    config = get_model_config(name.replace("/", "-")) if name.replace("/", "-") in known else None
    if config is None:
        hint = did_you_mean(name.replace("/", "-"), known)
        raise BuildError(f"{where}: open_clip has no model '{name}', and there is no such folder.{hint} Known: {shortened(known, 6)}")
    model = OpenCLIPModel(name.replace("/", "-"), config)
    if tag is None or not pretrained:
        return model
    return _with_weights(where, model, tag)


@contextlib.contextmanager
def building(where: str, model: OpenCLIPModel) -> Iterator[None]:
    """Convert errors of open_clip and timm about a configuration to one line.

    Raises:
        BuildError: A tower of this configuration cannot be built.
    """
    try:
        yield
    except (TypeError, ValueError, AssertionError, ArithmeticError, RuntimeError, KeyError) as error:
        raise BuildError(f"{where}: open_clip cannot build '{model.name}' ({first_line(error)})") from error


def _from_folder(where: str, name: str, folder: Path, tag: str | None, pretrained: bool) -> OpenCLIPModel:
    path = folder / "open_clip_config.json"
    if tag is not None:
        raise BuildError(f"{where}: the folder {name} contains weights. Remove tag='{tag}'")
    try:
        content = read_json(path)
    except DataError as error:
        raise BuildError(f"{where}: {name} is not an open_clip folder, {path.name} cannot be read ({first_line(error)})") from error
    config = content.get("model_cfg") if isinstance(content, dict) else None
    if not isinstance(config, dict):
        raise BuildError(f"{where}: {path} has no model_cfg")
    _check_config(where, name, config)
    if not pretrained:
        return OpenCLIPModel(name, config, folder=str(folder))
    weights = weights_in(folder, f"{where}: {name}")
    preprocessing = preprocessing_of(content["preprocess_cfg"], where) if content.get("preprocess_cfg") else None
    found = {"weights": weights, "preprocessing": preprocessing, "default": openai_preprocessing("crop")}
    return OpenCLIPModel(name, config, folder=str(folder), space=str(weights.resolve()), origin=f"folder {name}", **found)


def _from_repository(where: str, name: str, tag: str | None, pretrained: bool) -> OpenCLIPModel:
    """A model of the hub, whose tokenizer and text encoder open_clip looks up by the names in its configuration."""
    repository, required = name.removeprefix(HUB), [(CONFIG,), WEIGHTS] if pretrained else [(CONFIG,)]
    spelling = {"local": "openclip:FOLDER", "scratch": f"openclip:{name}:scratch"}
    folder = from_hub(lambda cached: hub_folder(repository, cached, required=required), where, repository, **spelling)
    model = _from_folder(where, str(folder), folder, tag, pretrained)
    weights = {"space": f"Hugging Face {repository}", "origin": f"Hugging Face {repository}"} if pretrained else {}
    return replace(model, name=name, folder=None, **weights)


def _with_weights(where: str, model: OpenCLIPModel, tag: str) -> OpenCLIPModel:
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

    published, path = get_pretrained_cfg(model.name, tag), Path(tag)
    if not published and not path.is_file():
        known = list_pretrained_tags_by_model(model.name)
        there = f"Known: {shortened(known, 8)}, or a local file" if known else "It has no published weights; pass a local file"
        raise BuildError(f"{where}: open_clip has no weights '{tag}' for {model.name}.{did_you_mean(tag, known)} {there}")
    if not published:
        found = {"weights": path, "default": _usual(model.name), "space": str(path.resolve()), "origin": f"file {tag}"}
        return replace(model, **found)
    trained_with = published.get("quick_gelu")
    if trained_with is not None and trained_with != model.quick_gelu:
        activation = "QuickGELU" if trained_with else "GELU"
        raise BuildError(
            f"{where}: the weights '{tag}' of {model.name} were trained with {activation}. {_other_activation(model.name, trained_with)}"
        )
    what, local = f"openclip:{model.name}/{tag}", f"openclip:{model.name}/FILE.safetensors"
    weights = published_file(published, where, what, local=local, scratch=f"openclip:{model.name}")
    origin = f"open_clip {model.name}/{tag}"
    return replace(model, weights=weights, preprocessing=preprocessing_of(published, where), space=space_of(published), origin=origin)


def _other_activation(name: str, quick_gelu: bool) -> str:
    """The model in the list with the other activation."""
    from open_clip import list_models

    other = f"{name}-quickgelu" if quick_gelu else name.removesuffix("-quickgelu")
    return (
        f"Use openclip:{other}/…"
        if other != name and other in list_models()
        else f"Set quick_gelu={quick_gelu} in the model's configuration"
    )


def _usual(name: str) -> Preprocessing:
    """The preprocessing of all published weights of ``name``; OpenAI's if they differ or none exist."""
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

    all_of_it = {preprocessing_of(get_pretrained_cfg(name, tag), name) for tag in list_pretrained_tags_by_model(name)}
    return all_of_it.pop() if len(all_of_it) == 1 else openai_preprocessing("crop")


def _check_config(where: str, name: str, config: dict) -> None:
    sections = [config.get(key) for key in ("vision_cfg", "text_cfg")]
    if not isinstance(config.get("embed_dim"), int) or not all(isinstance(section, dict) for section in sections):
        raise BuildError(f"{where}: the configuration of '{name}' must contain embed_dim, vision_cfg and text_cfg")
