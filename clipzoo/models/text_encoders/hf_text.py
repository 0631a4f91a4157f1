"""Any Hugging Face encoder as a text tower."""

from __future__ import annotations

import contextlib
import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

import torch
from torch import Tensor

from clipzoo.config.arguments import FilePath, Whole
from clipzoo.errors import BuildError, ClipzooError, ConfigError
from clipzoo.models.base import groups_by_layer
from clipzoo.models.lora import Adapters
from clipzoo.models.text_encoders.base import TextEncoder, padding_mask, pool
from clipzoo.models.text_encoders.hf_files import files_of, opened
from clipzoo.models.text_encoders.tokenizer import HFTokenizer, MaxLength, check_context
from clipzoo.models.weights.files import first_line
from clipzoo.models.weights.hub import from_hub, hub_file
from clipzoo.models.weights.transformers_format import WEIGHTS, parts_of, read_weights
from clipzoo.registries import TEXT_ENCODERS
from clipzoo.structures import Tokens

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

Result = TypeVar("Result")


@TEXT_ENCODERS.register_module()
class HFText(TextEncoder):
    """A text encoder from the Hugging Face hub, or from a local folder.

    Args:
        name: Hub name (``'hfl/chinese-roberta-wwm-ext'``), or a folder with ``config.json``, the tokenizer and, if pretrained, the weights.
        pretrained: ``False`` loads only architecture and tokenizer from ``name``; both are required.
        pooling: ``'cls'`` for the state of the first token, ``'mean'`` for the mean over all tokens.
        max_length: Maximum number of tokens per sentence, including special tokens.
        freeze: ``'all'`` freezes the whole tower.
        unfreeze_blocks: Number of last depth groups that are trained; ``None`` leaves the choice to ``freeze``.
        lora: Adapters that are trained instead of the weights: ``rank``, ``alpha`` and ``dropout``; ``None`` for none.
        files: Contents of ``config.json`` and tokenizer files by name, used instead of those of ``name``; without weights. Supplied by
            checkpoints.

    Raises:
        BuildError: The files are unavailable, the weights do not fit, or the model is not a text encoder.
        ConfigError: Both ``files`` and ``pretrained`` are given.
    """

    def __init__(
        self,
        name: FilePath,
        pretrained: bool = True,
        pooling: Literal["cls", "mean"] = "mean",
        max_length: MaxLength = 64,
        freeze: Literal["none", "all"] = "none",
        unfreeze_blocks: Whole | None = None,
        lora: Adapters | None = None,
        files: dict | None = None,
    ):
        super().__init__(freeze, unfreeze_blocks, lora)
        check_files("HFText", files, pretrained)
        self.name, self.pooling, self.context_length, self._files = name, pooling, max_length, files
        with opened(name, files, "HFText") as source:
            self._read(source, pretrained)
        self.num_features = self.net.config.hidden_size
        self.apply_freeze()

    def forward(self, tokens: Tokens) -> Tensor:
        """``[N, L]`` tokens to ``[N, num_features]``."""
        output = self.net(input_ids=tokens.ids, attention_mask=padding_mask(tokens).long())
        return pool(output.last_hidden_state, tokens, self.pooling)

    def depth_groups(self) -> list[list[str]]:
        """Embeddings, then one group per layer."""
        return groups_by_layer((n for n, _ in self.named_parameters()), r"\.(?:layers?|h|blocks?)\.(\d+)\.", r"embed|\.wte|\.wpe")

    def blueprint(self) -> dict:
        """See ``Tower.blueprint``."""
        if self._files is None:
            self._files = files_of(self.tokenizer.hugging_face, self.net.config, "HFText")
        return {"pretrained": False, "files": self._files}

    def checkpoint_gradients(self) -> None:
        """See ``Tower.checkpoint_gradients``."""
        recompute_layers(self.net, f"HFText {self.name}")

    def _read(self, source: str, pretrained: bool) -> None:
        from transformers import AutoModel

        config = read_config("HFText", source)
        _check_encoder(self.name, config)
        check_context("HFText", self.context_length, longest_context(config))
        self.tokenizer = HFTokenizer(read_tokenizer("HFText", source), self.context_length)
        cls = _network_class(config)
        arguments = {}
        if cls is not None and "add_pooling_layer" in inspect.signature(cls.__init__).parameters:
            arguments["add_pooling_layer"] = False  # unused parameters would break distributed training
        if pretrained and cls is None:
            raise BuildError(f"HFText: transformers has no network for a {config.model_type} model like '{self.name}'")
        if pretrained:
            self.net = read_model("HFText", source, cls, config, **arguments)
            self.weights = where_from(source)
        else:
            with _quiet_loading():  # in fp32, whatever the files' own precision is
                self.net = AutoModel.from_config(config, torch_dtype=torch.float32, trust_remote_code=False, **arguments)


def check_files(where: str, files: dict | None, pretrained: bool | str) -> None:
    """Refuse files together with weights, and files without a config.

    Raises:
        ConfigError: The combination is invalid.
    """
    if files is not None and (pretrained is not False or "config.json" not in files):
        what = "they contain no weights; use them with pretrained=False" if pretrained is not False else "config.json is missing"
        raise ConfigError(f"{where}: files: {what}")


def recompute_layers(network: PreTrainedModel, where: str) -> None:
    """Enable transformers' own checkpoints between layers.

    Raises:
        BuildError: The network has none.
    """
    if not network.supports_gradient_checkpointing:
        raise BuildError(f"train.gradient_checkpointing: {where} does not support it. Remove this option, or choose another model")
    # transformers 5 renamed it, and warns about the old name.
    enable = getattr(network, "activation_checkpointing_enable", None) or network.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def read_config(where: str, name: str) -> PretrainedConfig:
    """``config.json`` of a hub name or folder.

    Raises:
        BuildError: The file is unavailable (the message gives three ways to get it), or refers to custom code.
    """
    from transformers import AutoConfig, PretrainedConfig

    if name.startswith(("/", ".", "~")) and not os.path.isdir(name):
        raise BuildError(f"{where}: no folder {name}. Save a model there with save_pretrained(), or use a hub name")
    if os.path.isdir(name) and not os.path.isfile(os.path.join(name, "config.json")):
        raise BuildError(f"{where}: the folder {name} has no config.json. Save the model there with save_pretrained()")

    def load(cached: bool) -> PretrainedConfig:
        content, _ = PretrainedConfig.get_config_dict(name, local_files_only=cached)
        _refuse_code(content, "config.json", where, name)
        return AutoConfig.from_pretrained(name, trust_remote_code=False, local_files_only=cached)

    return reading(load, where, name)


def read_tokenizer(where: str, name: str):
    """The tokenizer of a hub name or folder.

    Raises:
        BuildError: The tokenizer is unavailable (the message gives three ways to get it), or needs custom code.
    """
    from transformers import AutoTokenizer

    def load(cached: bool):
        check_tokenizer(where, name, cached)
        return AutoTokenizer.from_pretrained(name, trust_remote_code=False, local_files_only=cached)

    tokenizer = reading(load, where, name, cache_first=tokenizer_is_cached(name))
    # Without files transformers would create an empty tokenizer, and every word would be unknown.
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise BuildError(f"{where}: {name} has no tokenizer files. Save them there with tokenizer.save_pretrained()")
    return tokenizer


def read_model(where: str, name: str, cls: type, config: PretrainedConfig, **arguments: object) -> PreTrainedModel:
    """A network with the weights of a hub name or folder, in fp32; heads for other tasks are ignored.

    Raises:
        BuildError: The weights are unavailable (the message gives three ways to get them), unreadable, or lack parameters of the tower.
    """

    def load(cached: bool) -> tuple[PreTrainedModel, dict]:
        folder = Path(name) if os.path.isdir(name) else _weights_folder(name, cached)
        state = read_weights(folder, f"{where}: {name}")
        arguments.update(output_loading_info=True, torch_dtype=torch.float32, trust_remote_code=False, local_files_only=True)
        with _quiet_loading():  # transformers handles older tensor names
            return cls.from_pretrained(None, config=config, state_dict=state, **arguments)

    model, report = reading(load, where, name)
    missing = sorted([*report["missing_keys"], *(str(key) for key in report["mismatched_keys"])])
    if missing:
        raise BuildError(f"{where}: the weights of '{name}' do not fit, missing or of another shape: {', '.join(missing[:4])}")
    return model


def where_from(name: str) -> str:
    """Description of the origin of weights."""
    return f"folder {name}" if os.path.isdir(name) else f"Hugging Face {name}"


def longest_context(config: PretrainedConfig) -> int | None:
    """Number of position embeddings available for tokens; ``None`` for no limit."""
    longest = getattr(config, "max_position_embeddings", None)
    if longest is None or longest <= 0:
        return None
    # RoBERTa counts positions from the padding id: two rows of its table are never used.
    return longest - (config.pad_token_id or 0) - 1 if config.model_type in _OFFSET_POSITIONS else longest


_OFFSET_POSITIONS = ("roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet", "longformer", "data2vec-text", "esm", "ibert")


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
    if not os.path.isdir(name):
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


def _weights_folder(name: str, cached: bool) -> Path:
    """The cache folder with config and weights of a hub name."""
    names = [file + ending for file in WEIGHTS for ending in ("", ".index.json")]
    hub_file(name, ("config.json",), cached)
    path = hub_file(name, names, cached)
    if path.name.endswith(".index.json"):
        for part in parts_of(path, name):
            hub_file(name, (part,), cached)
    return path.parent


@contextlib.contextmanager
def _quiet_loading() -> Iterator[None]:
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


def _check_encoder(name: str, config: PretrainedConfig) -> None:
    if config.is_encoder_decoder or not isinstance(getattr(config, "hidden_size", None), int):
        raise BuildError(f"HFText: '{name}' is a {config.model_type} model, not a text encoder. Use one such as bert, roberta or electra")


def _network_class(config: PretrainedConfig) -> type | None:
    """The class of the network without a head; ``None`` if transformers has none."""
    from transformers import MODEL_MAPPING

    classes = MODEL_MAPPING.get(type(config), None)
    if not isinstance(classes, (tuple, list)):
        return classes
    named = {cls.__name__: cls for cls in classes}
    return next((named[name] for name in config.architectures or () if name in named), classes[0])
