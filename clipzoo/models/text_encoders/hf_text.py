"""Any Hugging Face encoder as a text tower."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from clipzoo.config.arguments import FilePath, Whole
from clipzoo.errors import BuildError, ConfigError
from clipzoo.models.layout.open_clip import TOWER_FOLDER, OpenCLIPTower
from clipzoo.models.layout.states import copied
from clipzoo.models.lora import Adapters
from clipzoo.models.recompute import recompute_layers
from clipzoo.models.text_encoders.base import TextEncoder, padding_mask, pool
from clipzoo.models.text_encoders.tokenizer import HFTokenizer, MaxLength, WholeContextTokenizer, check_context
from clipzoo.models.tower import groups_by_layer
from clipzoo.models.weights.hf_clip import Kind, build_side, check_exportable, context_of, kind_of, read_side
from clipzoo.models.weights.hf_files import config_file, files_of, opened
from clipzoo.models.weights.hub import local_name
from clipzoo.models.weights.hugging_face import (
    build_network,
    is_image_network,
    network_class,
    read_config,
    read_model,
    read_tokenizer,
    space_of_name,
    where_from,
)
from clipzoo.registries import TEXT_ENCODERS
from clipzoo.structures import Tokens

if TYPE_CHECKING:
    from transformers import PretrainedConfig


@TEXT_ENCODERS.register_module()
class HFText(TextEncoder):
    """A text encoder from the Hugging Face hub, or from a local folder; of a CLIP, its text tower with the projection.

    Args:
        name: Hub name (``'hfl/chinese-roberta-wwm-ext'``, ``'google/siglip-base-patch16-224'``), or a folder with ``config.json``, the
            tokenizer and, if pretrained, the weights.
        pretrained: ``False`` loads only architecture and tokenizer from ``name``; both are required.
        pooling: ``'cls'`` for the state of the first token, ``'mean'`` for the mean over all tokens. ``None``: as a CLIP was trained,
            otherwise ``'mean'``.
        max_length: Maximum number of tokens per sentence, including special tokens. ``None``: as a CLIP was trained, otherwise 64.
        freeze: ``'all'`` freezes the whole tower.
        unfreeze_blocks: Number of last depth groups that are trained; ``None`` leaves the choice to ``freeze``.
        lora: Adapters that are trained instead of the weights: ``rank``, ``alpha`` and ``dropout``; ``None`` for none.
        files: Contents of ``config.json`` and tokenizer files by name, used instead of those of ``name``; without weights. Supplied by
            checkpoints.

    Raises:
        BuildError: The files are unavailable, the weights do not fit, or the model is not a text encoder.
        ConfigError: Both ``files`` and ``pretrained`` are given, or an argument contradicts the training of a CLIP.
    """

    def __init__(
        self,
        name: FilePath,
        pretrained: bool = True,
        pooling: Literal["cls", "mean"] | None = None,
        max_length: MaxLength | None = None,
        freeze: Literal["none", "all"] = "none",
        unfreeze_blocks: Whole | None = None,
        lora: Adapters | None = None,
        files: dict | None = None,
    ):
        super().__init__(freeze, unfreeze_blocks, lora)
        check_files("HFText", files, pretrained)
        self.name, self._files = name, files
        with opened(name if files else local_name(name, "HFText"), files, "HFText") as source:
            config = read_config("HFText", source)
            kind = kind_of(config, "HFText", name)
            if kind is None:
                self.pooling, self.context_length = pooling or "mean", max_length or 64
                self._read(source, config, pretrained)
            else:
                self.context_length = max_length or context_of(config)
                self._read_clip(source, config, pretrained, kind, pooling)
        self.apply_freeze()

    def forward(self, tokens: Tokens) -> Tensor:
        """``[N, L]`` tokens to ``[N, num_features]``, in the joint space for a CLIP."""
        if self.pooling == "last":
            return self.net(input_ids=tokens.ids).pooler_output
        if self.pooling == "end":  # causal: padding behind it changes nothing, and needs no mask
            hidden_NLD = self.net(input_ids=tokens.ids).last_hidden_state
            pooled_ND = hidden_NLD[torch.arange(tokens.ids.shape[0], device=tokens.ids.device), tokens.lengths - 1]
        else:
            output = self.net(input_ids=tokens.ids, attention_mask=padding_mask(tokens).long())
            pooled_ND = pool(output.last_hidden_state, tokens, self.pooling)
        return pooled_ND if self.projection is None else self.projection(pooled_ND)

    def depth_groups(self) -> list[list[str]]:
        """Embeddings, then one group per layer."""
        return groups_by_layer((n for n, _ in self.named_parameters()), r"\.(?:layers?|h|blocks?)\.(\d+)\.", r"embed|\.wte|\.wpe")

    def blueprint(self) -> dict:
        """See ``Tower.blueprint``."""
        if self._files is None:
            self._files = files_of(self.tokenizer.hugging_face, self._config)
        return {"pretrained": False, "files": self._files}

    def clip_layout(self, where: str) -> tuple[dict[str, Tensor], dict]:
        """See ``TextEncoder.clip_layout``.

        Raises:
            BuildError: Always; the message names the tower that has the same weights and can be exported.
        """
        check_exportable(self, self._config.model_type, where)
        return super().clip_layout(where)

    def open_clip_layout(self, matrix_ED: Tensor, where: str) -> OpenCLIPTower | None:
        """See ``TextEncoder.open_clip_layout``; of a CLIP, its text tower has no equivalent."""
        if self.projection is not None or self.pooling not in ("cls", "mean"):
            return None
        return encoder_in_open_clip(self, self.net, matrix_ED, self.blueprint()["files"], where)

    def checkpoint_gradients(self) -> None:
        """See ``Tower.checkpoint_gradients``."""
        recompute_layers(self.net, f"HFText {self.name}")

    def _read(self, source: str, config: PretrainedConfig, pretrained: bool) -> None:
        _check_encoder(self.name, config)
        check_context("HFText", self.context_length, longest_context(config))
        self.tokenizer = HFTokenizer(read_tokenizer("HFText", source), self.context_length)
        cls = network_class(config)
        arguments = {}
        if cls is not None and "add_pooling_layer" in inspect.signature(cls.__init__).parameters:
            arguments["add_pooling_layer"] = False  # unused parameters would break distributed training
        if pretrained and cls is None:
            raise BuildError(f"HFText: transformers has no network for a {config.model_type} model like '{self.name}'")
        if pretrained:
            self.net = read_model("HFText", source, cls, config, **arguments)
            self.weights = where_from(source)
        else:
            self.net = build_network(config, **arguments)
        self.projection, self._config = None, self.net.config
        self.num_features = self.net.config.hidden_size

    def _read_clip(self, source: str, config: PretrainedConfig, pretrained: bool, kind: Kind, pooling: str | None) -> None:
        """The text tower of a CLIP, with the position at which it reads the text, its projection, temperature and bias.

        Raises:
            ConfigError: ``pooling`` or the context differ from the training.
        """
        self.pooling, self._config = kind.reads, config
        if pooling not in (None, self.pooling):
            raise ConfigError(f"HFText.pooling: '{self.name}' is a CLIP, trained with another pooling than {pooling!r}. Remove it")
        longest = config.text_config.max_position_embeddings
        check_context("HFText", self.context_length, longest)
        if kind.reads == "last" and self.context_length != longest:
            raise ConfigError(f"HFText: max_length={self.context_length}, but '{self.name}' reads a text at its token {longest}. Remove it")
        tokenizer = read_tokenizer("HFText", source)
        if kind.reads == "end" and config.text_config.eos_token_id not in (_LARGEST, tokenizer.eos_token_id):
            ids = f"{config.text_config.eos_token_id} in config.json, {tokenizer.eos_token_id} in the tokenizer"
            raise BuildError(f"HFText: '{self.name}' has two different end-of-text tokens, {ids}")
        self.tokenizer = (WholeContextTokenizer if kind.reads == "last" else HFTokenizer)(tokenizer, self.context_length)
        if not pretrained:
            self.net, self.projection = build_side(config, "text")
        else:
            (self.net, self.projection), loaded = read_side(config, "text", name=source, where="HFText")
            self.logit_scale, self.logit_bias = loaded
            self.weights, self.space = where_from(source), space_of_name(source)
        self.projected, self.num_features = True, _width(self.net, self.projection)


# What OpenAI's own configs have as eos_token_id: "the largest id", which is the end of text.
_LARGEST = 2


def _width(network: nn.Module, projection: nn.Linear | None) -> int:
    if projection is not None:
        return projection.out_features
    return getattr(network, "text_model", network).head.out_features  # the inner module before transformers 5


# Encoders that open_clip 3.3 knows and builds without a pooling layer.
_IN_OPEN_CLIP = ("bert", "roberta", "xlm-roberta")


def encoder_in_open_clip(tower: TextEncoder, network: nn.Module, matrix_ED: Tensor, files: dict[str, str], where: str) -> OpenCLIPTower:
    """``TextEncoder.open_clip_layout`` of a Hugging Face encoder pooled by ``tower.pooling``.

    Args:
        tower: The tower.
        network: Its encoder, without a pooling layer.
        matrix_ED: Projection from the pooled states into the joint space.
        files: Tokenizer files; with ``config.json`` or without.
        where: Start of a message.

    Raises:
        BuildError: open_clip does not know this kind of encoder, or would mask other tokens.
    """
    config = network.config
    if config.model_type not in _IN_OPEN_CLIP:
        kinds = ", ".join(_IN_OPEN_CLIP)
        raise BuildError(f"{where}: open_clip has no text tower around a {config.model_type} model, only around {kinds}")
    pad = getattr(getattr(tower.tokenizer, "hugging_face", None), "pad_token_id", config.pad_token_id)
    if pad != config.pad_token_id:
        raise BuildError(f"{where}: the tokenizer pads with token {pad}, but open_clip masks token {config.pad_token_id} of config.json")
    state = {f"transformer.{key}": value for key, value in copied(network).items()}
    state["proj.weight"] = matrix_ED.float()
    pooler = {"cls": "cls_last_hidden_state_pooler", "mean": "mean_pooler"}[tower.pooling]
    own = {"hf_pooler_type": pooler, "hf_proj_type": "linear", "context_length": tower.context_length}
    return OpenCLIPTower(state, {**own, **TOWER_FOLDER, "hf_model_pretrained": False}, {**files, **config_file(config)})


def check_files(where: str, files: dict | None, pretrained: bool | str) -> None:
    """Refuse files together with weights, and files without a config.

    Raises:
        ConfigError: The combination is invalid.
    """
    if files is not None and (pretrained is not False or "config.json" not in files):
        what = "they contain no weights; use them with pretrained=False" if pretrained is not False else "config.json is missing"
        raise ConfigError(f"{where}: files: {what}")


def longest_context(config: PretrainedConfig) -> int | None:
    """Number of position embeddings available for tokens; ``None`` for no limit."""
    longest = getattr(config, "max_position_embeddings", None)
    if longest is None or longest <= 0:
        return None
    # RoBERTa counts positions from the padding id: two rows of its table are never used.
    return longest - (config.pad_token_id or 0) - 1 if config.model_type in _OFFSET_POSITIONS else longest


_OFFSET_POSITIONS = ("roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet", "longformer", "data2vec-text", "esm", "ibert")


def _check_encoder(name: str, config: PretrainedConfig) -> None:
    if is_image_network(network_class(config)):
        raise BuildError(f"HFText: '{name}' is a {config.model_type} model, which has an image tower and no text tower")
    if config.is_encoder_decoder or not isinstance(getattr(config, "hidden_size", None), int):
        raise BuildError(f"HFText: '{name}' is a {config.model_type} model, not a text encoder. Use one such as bert, roberta or electra")
