"""Any Hugging Face encoder as a text tower."""

from __future__ import annotations

import contextlib
import inspect
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import torch
from safetensors import SafetensorError
from torch import Tensor

from clipzoo.errors import BuildError, ConfigError
from clipzoo.models.base import check_choice, groups_by_layer
from clipzoo.models.pretrained import first_line, hub
from clipzoo.models.text_encoders.base import TextEncoder, padding_mask, pool
from clipzoo.models.text_encoders.hf_files import files_of, opened
from clipzoo.models.text_encoders.tokenizer import HFTokenizer, check_context
from clipzoo.registries import TEXT_ENCODERS
from clipzoo.structures import Tokens

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


@TEXT_ENCODERS.register_module()
class HFText(TextEncoder):
    """A text encoder by its name on the Hugging Face hub, or from a local folder.

    Args:
        name: Hub name (``'hfl/chinese-roberta-wwm-ext'``), or a folder with ``config.json``, the tokenizer and, if pretrained, the weights.
        pretrained: ``False`` takes only architecture and tokenizer from ``name``; both are needed even then.
        pooling: The first token's state, or the mean over all tokens.
        max_length: Most tokens of a sentence, special tokens included.
        freeze: ``'all'`` trains nothing of this tower.
        unfreeze_blocks: Only the last so many depth groups learn; ``None`` leaves it to ``freeze``.
        lora: ``rank``, ``alpha`` and ``dropout`` of adapters that learn in place of the weights; ``None`` for none.
        files: Name to content of ``config.json`` and the tokenizer's files, which are read in place of those of ``name``; a checkpoint
            brings them. They hold no weights.

    Raises:
        BuildError: The files cannot be had, the weights do not fit, or the model is no text encoder.
        ConfigError: ``files`` together with ``pretrained``.
    """

    def __init__(
        self,
        name: str,
        pretrained: bool = True,
        pooling: Literal["cls", "mean"] = "mean",
        max_length: int = 64,
        freeze: Literal["none", "all"] = "none",
        unfreeze_blocks: int | None = None,
        lora: dict | None = None,
        files: dict | None = None,
    ):
        super().__init__(freeze, unfreeze_blocks, lora)
        check_choice("HFText", "pooling", pooling, ("cls", "mean"))
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
        arguments = {"add_pooling_layer": False} if _has_pooling_layer(config) else {}  # unused, it would break distributed training
        if pretrained:
            self.net = read_model("HFText", source, AutoModel, **arguments)
            self.weights = where_from(source)
        else:
            with _quiet_loading():  # in fp32, whatever the files' own precision is
                self.net = AutoModel.from_config(config, torch_dtype=torch.float32, **arguments)


def check_files(where: str, files: dict | None, pretrained: bool | str) -> None:
    """Refuse files together with weights, and files without a config.

    Raises:
        ConfigError: It is so.
    """
    if files is not None and (pretrained is not False or "config.json" not in files):
        what = "they hold no weights; pretrained=False is needed beside them" if pretrained is not False else "config.json is missing"
        raise ConfigError(f"{where}: files: {what}")


def recompute_layers(network: PreTrainedModel, where: str) -> None:
    """Switch on transformers' own checkpoints between layers.

    Raises:
        BuildError: The network has none.
    """
    if not network.supports_gradient_checkpointing:
        raise BuildError(f"train.gradient_checkpointing: {where} cannot compute activations again. Leave it out, or choose another model")
    # transformers 5 renamed it, and warns of the old name.
    enable = getattr(network, "activation_checkpointing_enable", None) or network.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def read_config(where: str, name: str) -> PretrainedConfig:
    """``config.json`` of a hub name or folder.

    Raises:
        BuildError: It cannot be had; with the three ways.
    """
    from transformers import AutoConfig

    if name.startswith(("/", ".", "~")) and not os.path.isdir(name):
        raise BuildError(f"{where}: no folder {name}. Save a model there with save_pretrained(), or give a name on the hub")
    if os.path.isdir(name) and not os.path.isfile(os.path.join(name, "config.json")):
        raise BuildError(f"{where}: the folder {name} has no config.json. Save the model there with save_pretrained()")
    with hub(where, name, *_instead(where)), readable(where, name):
        return AutoConfig.from_pretrained(name)


def read_tokenizer(where: str, name: str):
    """The tokenizer of a hub name or folder.

    Raises:
        BuildError: It cannot be had; with the three ways.
    """
    from transformers import AutoTokenizer

    with hub(where, name, *_instead(where)), readable(where, name):
        tokenizer = AutoTokenizer.from_pretrained(name)
    # Without its files transformers makes an empty tokenizer, and every word would be unknown.
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise BuildError(f"{where}: {name} has no tokenizer files. Save them there with tokenizer.save_pretrained()")
    return tokenizer


def read_model(where: str, name: str, cls: type, **arguments: object) -> PreTrainedModel:
    """The weights of a hub name or folder, in fp32; heads for other tasks in the files are left out.

    Raises:
        BuildError: They cannot be had (with the three ways), or parameters of the tower are missing in them.
    """
    with hub(where, name, *_instead(where)), readable(where, name), _quiet_loading():
        model, report = cls.from_pretrained(name, output_loading_info=True, torch_dtype=torch.float32, **arguments)
    missing = sorted([*report["missing_keys"], *(str(key) for key in report["mismatched_keys"])])
    if missing:
        raise BuildError(f"{where}: the weights of '{name}' do not fit, missing or of another shape: {', '.join(missing[:4])}")
    return model


def where_from(name: str) -> str:
    """The origin of weights in words."""
    return f"folder {name}" if os.path.isdir(name) else f"Hugging Face {name}"


def longest_context(config: PretrainedConfig) -> int | None:
    """How many tokens the position embeddings hold; ``None`` where there is no limit."""
    longest = getattr(config, "max_position_embeddings", None)
    if longest is None or longest <= 0:
        return None
    # RoBERTa counts positions from the padding id on: two rows of its table are never used.
    return longest - (config.pad_token_id or 0) - 1 if config.model_type in _OFFSET_POSITIONS else longest


_OFFSET_POSITIONS = ("roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet", "longformer", "data2vec-text", "esm", "ibert")


def _instead(where: str) -> tuple[str, str]:
    """How a user gives local weights, and how he starts from random ones."""
    if where == "HFText":  # its architecture is on the hub, too
        return "hf:FOLDER", "bert for a small BERT that needs no files"
    return "name='FOLDER'", "pretrained=False"


@contextlib.contextmanager
def _quiet_loading() -> Iterator[None]:
    """Without the report of left-out heads (what is missing is our own error) and the bar of a second's work; downloads keep theirs."""
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


@contextlib.contextmanager
def readable(where: str, name: str) -> Iterator[None]:
    """Turns transformers' complaints about unreadable content into one line."""
    try:
        yield
    except (ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        raise BuildError(f"{where}: '{name}' cannot be read ({first_line(error)})") from error


def _check_encoder(name: str, config: PretrainedConfig) -> None:
    if config.is_encoder_decoder or not isinstance(getattr(config, "hidden_size", None), int):
        raise BuildError(f"HFText: '{name}' is a {config.model_type} model, not a text encoder. Take one such as bert, roberta or electra")


def _has_pooling_layer(config: PretrainedConfig) -> bool:
    from transformers import MODEL_MAPPING

    cls = MODEL_MAPPING.get(type(config), None)
    return cls is not None and "add_pooling_layer" in inspect.signature(cls.__init__).parameters
