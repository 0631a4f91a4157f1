"""Reading of Hugging Face repositories, from the hub, its cache or a folder: configs, tokenizers and weights. Their code is never run."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from clipzoo.errors import BuildError, ClipzooError, first_line
from clipzoo.lean_imports import lean
from clipzoo.models.layout.open_clip import CONFIG
from clipzoo.models.weights.hub import from_hub, hub_file, hub_folder
from clipzoo.models.weights.transformers_format import PROCESSORS, WEIGHTS, image_processor, parts_of, read_weights

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

Result = TypeVar("Result")


# Packages that tokenizers of transformers need; SigLIP's is a vocabulary of SentencePiece.
_TOKENIZER_PACKAGES = ("sentencepiece", "protobuf", "tiktoken")


def is_folder(name: str) -> bool:
    """Whether ``name`` is a local folder, and not the name of a repository."""
    return os.path.isdir(name)


def read_config(where: str, name: str) -> PretrainedConfig:
    """``config.json`` of a hub name or folder.

    Raises:
        BuildError: The file is unavailable (the message gives three ways to get it), or refers to custom code.
    """
    from transformers import AutoConfig, PretrainedConfig

    if name.startswith(("/", ".", "~")) and not is_folder(name):
        raise BuildError(f"{where}: no folder {name}. Save a model there with save_pretrained(), or use a hub name")
    if is_folder(name) and not os.path.isfile(os.path.join(name, "config.json")):
        raise BuildError(f"{where}: the folder {name} has no config.json. Save the model there with save_pretrained()")

    def load(cached: bool) -> PretrainedConfig:
        content, _ = PretrainedConfig.get_config_dict(name, local_files_only=cached)
        if "architecture" in content and content.get("model_type") in (None, "timm_wrapper"):  # which transformers adds
            raise BuildError(f"{where}: '{name}' is in timm's layout. Use timm:{name if is_folder(name) else f'hf-hub:{name}'}")
        if not content and _is_open_clips(name, cached):
            raise BuildError(f"{where}: '{name}' is in open_clip's layout. Use openclip:hf-hub:{name}")
        _refuse_code(content, "config.json", where, name)
        return AutoConfig.from_pretrained(name, trust_remote_code=False, local_files_only=cached)

    return reading(load, where, name)


def takes_images(name: str, where: str) -> tuple[bool, bool]:
    """Whether a model of transformers has an image tower, and whether it has a text tower.

    Raises:
        BuildError: Its config is unavailable or not supported.
    """
    config = read_config(where, name)
    if hasattr(config, "vision_config"):
        return True, True
    image = is_image_network(network_class(config))
    return image, not image


def is_image_network(cls: type | None) -> bool:
    """Whether a network takes images and nothing else."""
    return cls is not None and cls.main_input_name == "pixel_values" and "text" not in (getattr(cls, "input_modalities", None) or ())


def read_tokenizer(where: str, name: str):
    """The tokenizer of a hub name or folder.

    Raises:
        BuildError: The tokenizer is unavailable (the message gives three ways to get it), or needs custom code.
    """
    from transformers import AutoTokenizer

    def load(cached: bool):
        check_tokenizer(where, name, cached)
        try:
            return AutoTokenizer.from_pretrained(name, trust_remote_code=False, local_files_only=cached)
        except ImportError as error:
            package = next((name for name in _TOKENIZER_PACKAGES if name in str(error).lower()), None)
            if package is None:
                raise
            raise BuildError(f"{where}: the tokenizer of '{name}' needs the package {package}: pip install {package}") from error

    tokenizer = reading(load, where, name, cache_first=tokenizer_is_cached(name))
    # Without files transformers would create an empty tokenizer, and every word would be unknown.
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise BuildError(f"{where}: {name} has no tokenizer files. Save them there with tokenizer.save_pretrained()")
    return tokenizer


def read_model(
    where: str,
    name: str,
    cls: type,
    config: PretrainedConfig,
    choose: Callable[[dict[str, Tensor]], dict] | None = None,
    **arguments: object,
) -> PreTrainedModel:
    """A network with the weights of a hub name or folder, in fp32; heads for other tasks are ignored.

    Args:
        where: Start of a message.
        name: Hub name or folder.
        cls: Class of the network.
        config: Its configuration.
        choose: Function from the tensors of the file to further arguments of the class.
        arguments: Arguments of the class.

    Raises:
        BuildError: The weights are unavailable (the message gives three ways to get them), unreadable, or lack parameters of the tower.
    """

    def load(cached: bool) -> tuple[PreTrainedModel, dict]:
        state = _read_state(where, name, cached)
        own = {**arguments, **({} if choose is None else choose(state))}
        own |= {"output_loading_info": True, "torch_dtype": torch.float32, "trust_remote_code": False, "local_files_only": True}
        with quiet_loading():  # transformers handles older tensor names
            return cls.from_pretrained(None, config=config, state_dict=state, **own)

    model, report = reading(load, where, name)
    missing = sorted([*report["missing_keys"], *(str(key) for key in report["mismatched_keys"])])
    if missing:
        raise BuildError(f"{where}: the weights of '{name}' do not fit, missing or of another shape: {', '.join(missing[:4])}")
    return model


def read_tensors(where: str, name: str) -> dict[str, Tensor]:
    """All tensors of a hub name or folder, in fp32.

    Raises:
        BuildError: The weights are unavailable (the message gives three ways to get them) or unreadable.
    """
    return reading(lambda cached: _read_state(where, name, cached), where, name)


def build_network(config: PretrainedConfig, **arguments: object) -> PreTrainedModel:
    """A network with random weights in fp32, whatever precision its config names."""
    with lean():
        from transformers import AutoModel

    with quiet_loading():
        return AutoModel.from_config(config, torch_dtype=torch.float32, trust_remote_code=False, **arguments)


def read_image_processor(where: str, name: str) -> tuple[dict, str] | None:
    """The content of the image processor's file of a hub name or folder, and the start of messages about it; ``None`` without a file.

    Raises:
        BuildError: The file is unreadable, or the hub, which may have one, is unavailable.
    """
    if is_folder(name):
        folder = Path(name)
    else:

        def load(cached: bool) -> Path:
            return hub_folder(name, cached, required=[("config.json",)], optional=[PROCESSORS])

        folder = reading(load, where, f"{name} ({PROCESSORS[1]})")
    found = image_processor(folder, f"{where}: {name}")
    return None if found is None else (found[0], f"{where}: {name}: {found[1]}")


def _is_open_clips(name: str, cached: bool) -> bool:
    """Whether a repository has a config of open_clip; false if that cannot be found out."""
    try:
        return hub_file(name, (CONFIG,), cached).is_file()
    except Exception:  # of any client; the caller knows the better message
        return False


def _read_state(where: str, name: str, cached: bool) -> dict[str, Tensor]:
    return read_weights(Path(name) if is_folder(name) else weights_folder(name, cached), f"{where}: {name}")


def where_from(name: str) -> str:
    """Description of the origin of weights."""
    return f"folder {name}" if is_folder(name) else f"Hugging Face {name}"


def space_of_name(name: str) -> str:
    """The joint space of a hub name or folder, equal for both towers; see ``Tower``."""
    return str(Path(name).resolve()) if is_folder(name) else f"Hugging Face {name}"


def reading(load: Callable[[bool], Result], where: str, name: str, cache_first: bool = True) -> Result:
    """The result of ``load`` for a folder or hub name.

    Args:
        load: Function that takes whether only local files may be used.
        where: Start of a message.
        name: Folder, or name on the hub.
        cache_first: See ``from_hub``.

    Raises:
        BuildError: The source is unreadable or unavailable.
    """
    if not is_folder(name):
        local, scratch = _INSTEAD.get(where, ("name='FOLDER'", "pretrained=False"))
        return from_hub(load, where, name, local=local, scratch=scratch, cache_first=cache_first)
    try:
        return load(True)
    except ClipzooError:
        raise
    except Exception as error:  # transformers and tokenizers raise many kinds of errors for unreadable content
        raise BuildError(f"{where}: '{name}' cannot be read ({first_line(error)})") from error


# How a user passes local files or starts from random weights, for towers whose architecture or tokenizer is also on the hub.
_INSTEAD = {
    "HFVision": ("hf:FOLDER", "an architecture such as resnet18, which needs no files"),
    "HFText": ("hf:FOLDER", "bert for a small BERT that needs no files"),
    "OpenCLIPText": ("openclip:FOLDER with the tokenizer's files", "clip:ViT-B/32:scratch, which needs no files"),
}


def check_tokenizer(where: str, name: str, cached: bool) -> None:
    """Refuse a tokenizer with custom code.

    Raises:
        BuildError: The tokenizer has custom code.
    """
    from transformers.models.auto.tokenization_auto import get_tokenizer_config

    _refuse_code(get_tokenizer_config(name, local_files_only=cached), "tokenizer_config.json", where, name)


def tokenizer_is_cached(name: str) -> bool:
    """Is the whole tokenizer of a hub name in the local cache? Unknown for older tokenizers that consist of several files."""
    from huggingface_hub import try_to_load_from_cache

    try:
        return isinstance(try_to_load_from_cache(name, "tokenizer.json"), str)
    except ValueError:  # not a valid hub name
        return True


def _refuse_code(config: Mapping, file: str, where: str, name: str) -> None:
    """Repository code is never run; without it the model would be a different one, even if transformers supports its type."""
    if config.get("auto_map"):
        raise BuildError(
            f"{where}: '{name}' requires custom Python code ({file}: auto_map), which is never run. "
            "Choose a model that transformers itself supports"
        )


def weights_folder(name: str, cached: bool) -> Path:
    """The cache folder with config and weights of a hub name."""
    names = [file + ending for file in WEIGHTS for ending in ("", ".index.json")]
    hub_file(name, ("config.json",), cached)
    path = hub_file(name, names, cached)
    if path.name.endswith(".index.json"):
        for part in parts_of(path, name):
            hub_file(name, (part,), cached)
    return path.parent


@contextlib.contextmanager
def quiet_loading() -> Iterator[None]:
    """Silence transformers' report of ignored heads (we report missing tensors) and its short progress bar; downloads keep theirs."""
    from huggingface_hub.utils import enable_progress_bars
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if bars:
        enable_progress_bars()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def network_class(config: PretrainedConfig) -> type | None:
    """The class of the network without a head; ``None`` if transformers has none."""
    from transformers import MODEL_MAPPING

    classes = MODEL_MAPPING.get(type(config), None)
    if not isinstance(classes, (tuple, list)):
        return classes
    named = {cls.__name__: cls for cls in classes}
    return next((named[name] for name in config.architectures or () if name in named), classes[0])
