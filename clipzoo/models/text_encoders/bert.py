"""BERT: published weights, or a small network from scratch that reads Chinese without network access."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from clipzoo.config.arguments import FilePath, Layers, Share, Whole, Width
from clipzoo.errors import BuildError, ConfigError, first_line
from clipzoo.lean_imports import lean
from clipzoo.models.layout.modules import bert as network
from clipzoo.models.layout.open_clip import OpenCLIPTower
from clipzoo.models.layout.sizes import bert_sizes
from clipzoo.models.layout.states import copied, load_strictly
from clipzoo.models.layout.transformers import TOKENIZER_FILES, bert_config
from clipzoo.models.lora import Adapters
from clipzoo.models.recompute import recompute_layers
from clipzoo.models.text_encoders.base import TextEncoder, padding_mask, pool
from clipzoo.models.text_encoders.hf_text import check_files, encoder_in_open_clip, longest_context
from clipzoo.models.text_encoders.tokenizer import HFTokenizer, MaxLength, WordPieceTokenizer, character_vocabulary, check_context
from clipzoo.models.tower import groups_by_layer
from clipzoo.models.weights.hf_files import files_of, folder_of, opened
from clipzoo.models.weights.hugging_face import read_config, read_model, read_tokenizer, where_from
from clipzoo.models.weights.source import joint_weights
from clipzoo.registries import TEXT_ENCODERS
from clipzoo.structures import Tokens

if TYPE_CHECKING:
    from transformers import PretrainedConfig


@TEXT_ENCODERS.register_module()
class BERT(TextEncoder):
    """Hugging Face's BERT without its pooling layer.

    Args:
        name: Hub name or local folder of the published weights; ignored if ``pretrained=False``.
        pretrained: ``True`` loads the weights of ``name``. ``False`` builds a BERT of the sizes below with random weights and a
            vocabulary created in code, without network access. A string is a file or folder with a CLIP whose text tower is a BERT, such
            as Chinese-CLIP's, projected into the joint space; if it has no vocabulary, that of ``name`` is used.
        pooling: ``'cls'`` for the state of ``[CLS]``, ``'mean'`` for the mean over all tokens.
        hidden_size: Width of a network from scratch.
        num_layers: Number of layers of a network from scratch.
        num_heads: Number of attention heads of a network from scratch.
        max_length: Maximum number of tokens, including ``[CLS]`` and ``[SEP]``. ``None``: as a whole CLIP was trained, otherwise 64.
        dropout: Dropout on hidden states and attention weights, in [0, 1).
        freeze: ``'all'`` freezes the whole tower.
        unfreeze_blocks: Number of last depth groups that are trained; ``None`` leaves the choice to ``freeze``.
        lora: Adapters that are trained instead of the weights: ``rank``, ``alpha`` and ``dropout``; ``None`` for none.
        projection: Width of a joint space into which the features are projected, without bias; ``None`` for no projection, or that of
            the whole CLIP.
        files: Contents of ``config.json`` and tokenizer files by name, which then define the architecture; without weights. Supplied by
            checkpoints.

    Raises:
        BuildError: Published weights are unavailable, do not fit, or are not BERT's.
        ConfigError: Sizes are incompatible, or both ``files`` and ``pretrained`` are given.

    Source: Devlin et al. 2019 (arXiv:1810.04805); Chinese-CLIP: Yang et al. 2022 (arXiv:2211.01335).
    """

    token_table = "bert.embeddings.word_embeddings"

    def __init__(
        self,
        name: FilePath = "bert-base-chinese",
        pretrained: bool | FilePath = True,
        pooling: Literal["cls", "mean"] = "cls",
        hidden_size: Width = 256,
        num_layers: Layers = 4,
        num_heads: Width = 4,
        max_length: MaxLength | None = None,
        dropout: Share = 0.1,
        freeze: Literal["none", "all"] = "none",
        unfreeze_blocks: Whole | None = None,
        lora: Adapters | None = None,
        projection: Width | None = None,
        files: dict | None = None,
    ):
        super().__init__(freeze, unfreeze_blocks, lora)
        check_files("BERT", files, pretrained)
        self.pooling, self.context_length, self._files = pooling, 64 if max_length is None else max_length, files
        self.name = name
        rates = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
        if isinstance(pretrained, str):
            self._from_clip(pretrained, max_length, projection, rates)
        else:
            if files is not None:
                self._from_files(files, rates)
            elif pretrained:
                self._from_weights(name, rates)
            else:
                self.name = f"{num_layers} layers of width {hidden_size}"
                self._from_scratch(hidden_size, num_layers, num_heads, rates)
            self._project(projection)
        self.apply_freeze()

    def forward(self, tokens: Tokens) -> Tensor:
        """``[N, L]`` tokens to ``[N, num_features]``."""
        # BertModel.forward builds the mask itself, and checks on the host whether it masks anything, which synchronises at every step.
        mask_N11L = padding_mask(tokens)[:, None, None, :]
        hidden_NLD = self.bert.encoder(self.bert.embeddings(input_ids=tokens.ids), attention_mask=mask_N11L)[0]
        pooled_ND = pool(hidden_NLD, tokens, self.pooling)
        return pooled_ND if self.text_projection is None else pooled_ND @ self.text_projection

    def depth_groups(self) -> list[list[str]]:
        """Embeddings, then one group per layer."""
        return groups_by_layer((n for n, _ in self.named_parameters()), r"\.layer\.(\d+)\.", r"\.embeddings\.")

    def blueprint(self) -> dict:
        """See ``Tower.blueprint``."""
        own = {"pretrained": False, "max_length": self.context_length, "projection": self.num_features if self.projected else None}
        if isinstance(self.tokenizer, WordPieceTokenizer):
            return own
        if self._files is None:
            self._files = files_of(self.tokenizer.hugging_face, self.bert.config)
        return {**own, "files": self._files}

    def clip_layout(self, where: str) -> tuple[dict[str, Tensor], dict]:
        """See ``TextEncoder.clip_layout``: the layout of Chinese-CLIP."""
        if self.pooling != "cls":
            other = f"pooling='{self.pooling}', but Chinese-CLIP pools a BERT at its first token, 'cls'"
            raise BuildError(f"{where}: the text tower has {other}")
        text, projection_WD = copied(self.bert), self.text_projection
        text["text_projection"] = (torch.eye(self.num_features) if projection_WD is None else projection_WD).detach().cpu().clone()
        sizes = {**bert_sizes(text, where), "text_heads": self.bert.config.num_attention_heads}
        config = bert_config(self.bert.config.to_dict())
        return text, {**sizes, "text_kind": "bert", "text_config": config, "files": self._tokenizer_files()}

    def open_clip_layout(self, matrix_ED: Tensor, where: str) -> OpenCLIPTower:
        """See ``TextEncoder.open_clip_layout``."""
        own_WD = self.text_projection
        whole_EW = matrix_ED if own_WD is None else matrix_ED @ own_WD.detach().cpu().double().T
        return encoder_in_open_clip(self, self.bert, whole_EW, self._tokenizer_files(), where)

    def _tokenizer_files(self) -> dict[str, str]:
        """The tokenizer files of the published weights, or the vocabulary created in code."""
        if not isinstance(self.tokenizer, WordPieceTokenizer):
            files = self.blueprint()["files"]
            return {name: files[name] for name in TOKENIZER_FILES if name in files}
        config = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": self.context_length}
        tokens = sorted(character_vocabulary().items(), key=lambda item: item[1])
        return {"vocab.txt": "".join(f"{token}\n" for token, _ in tokens), "tokenizer_config.json": json.dumps(config)}

    def checkpoint_gradients(self) -> None:
        """See ``Tower.checkpoint_gradients``."""
        recompute_layers(self.bert, f"BERT {self.name}")

    def _project(self, width: int | None) -> None:
        """Create a projection into a joint space of that width, with CLIP's random initialisation; ``None`` for none."""
        hidden_size = self.bert.config.hidden_size
        self.num_features, self.projected = width or hidden_size, width is not None
        self.text_projection = None
        if width is not None:
            self.text_projection = nn.Parameter(torch.randn(hidden_size, width) * hidden_size**-0.5)

    def _from_weights(self, name: str, rates: dict[str, float]) -> None:
        with lean():
            from transformers import BertModel

        config = read_config("BERT", name)
        self._tokenize_like(name, config)
        config.update(rates)
        self.bert = read_model("BERT", name, BertModel, config, add_pooling_layer=False, attn_implementation="sdpa")
        self.weights = where_from(name)

    def _from_files(self, files: dict[str, str], rates: dict[str, float]) -> None:
        with folder_of(files, "BERT") as folder:
            config = read_config("BERT", folder)
            self._tokenize_like(folder, config)
        self.bert = network({**config.to_dict(), **rates})

    def _tokenize_like(self, name: str, config: PretrainedConfig) -> None:
        if config.model_type != "bert":
            raise BuildError(f"BERT: '{name}' is a {config.model_type} model, not BERT. Use hf:{name}")
        check_context("BERT", self.context_length, longest_context(config))
        self.tokenizer = HFTokenizer(read_tokenizer("BERT", name), self.context_length)

    def _from_clip(self, path: str, max_length: int | None, projection: int | None, rates: dict[str, float]) -> None:
        """Load the text tower of a whole CLIP, with its projection.

        Raises:
            BuildError: The text tower is not a BERT, does not match its vocabulary or the arguments, or has no vocabulary.
        """
        source = joint_weights("BERT", None, path)
        weights, where = source.weights, f"BERT({source.origin})"
        if weights.text_kind != "bert":
            raise BuildError(f"{where}: the weights' text tower is {weights.describe_text()}, not a BERT. Use weights:{path}, or CLIPText")
        if self.pooling != "cls":
            raise BuildError(f"{where}: pooling='{self.pooling}', but the weights were trained with the state of [CLS]. Remove it")
        if projection not in (None, weights.embed_dim):
            raise BuildError(f"{where}: projection={projection}, but the weights' joint space has width {weights.embed_dim}. Remove it")
        self.context_length = weights.context_length if max_length is None else max_length
        check_context("BERT", self.context_length, weights.text_config["max_position_embeddings"])
        with opened(self.name, weights.files or None, "BERT") as folder:
            tokenizer = read_tokenizer("BERT", folder)
        if len(tokenizer) != weights.vocab_size:
            raise BuildError(
                f"{where}: the weights were trained with {weights.vocab_size} tokens, but the tokenizer of '{self.name}' has "
                f"{len(tokenizer)}. Put the weights' own vocab.txt next to them, or pass its folder, name='FOLDER'"
            )
        self.tokenizer = HFTokenizer(tokenizer, self.context_length)
        try:
            self.bert = network({**weights.text_config, **rates})
        except (KeyError, ValueError, AssertionError) as error:  # from transformers and torch
            raise BuildError(f"{where}: its text_config does not define a BERT ({first_line(error)})") from error
        self._project(weights.embed_dim)
        state = {key if key == "text_projection" else f"bert.{key}": value for key, value in weights.text.items()}
        load_strictly(self, state, where)
        self.name, self.weights, self.space = "of a CLIP", source.origin, source.space
        self.logit_scale, self.logit_bias = weights.logit_scale, weights.logit_bias

    def _from_scratch(self, hidden_size: int, num_layers: int, num_heads: int, rates: dict[str, float]) -> None:
        if hidden_size % num_heads:
            raise ConfigError(f"BERT: hidden_size={hidden_size} is not a multiple of num_heads={num_heads}")
        self.tokenizer = WordPieceTokenizer(self.context_length)
        sizes = {"vocab_size": self.tokenizer.vocab_size, "max_position_embeddings": self.context_length}
        heads = {"num_hidden_layers": num_layers, "num_attention_heads": num_heads}
        self.bert = network({**sizes, **heads, "hidden_size": hidden_size, "intermediate_size": 4 * hidden_size, **rates})
