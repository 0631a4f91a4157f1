"""BERT: published weights, or a small one from scratch that reads Chinese without a network."""

from __future__ import annotations

import os
from typing import Literal

from torch import Tensor

from clipzoo.errors import BuildError, ConfigError
from clipzoo.models.base import check_choice, check_positive, groups_by_layer
from clipzoo.models.text_encoders.base import TextEncoder, padding_mask, pool
from clipzoo.models.text_encoders.hf_text import longest_context, read_config, read_model, read_tokenizer, where_from
from clipzoo.models.text_encoders.tokenizer import HFTokenizer, WordPieceTokenizer, check_context
from clipzoo.registries import TEXT_ENCODERS
from clipzoo.structures import Tokens


@TEXT_ENCODERS.register_module()
class BERT(TextEncoder):
    """Hugging Face's BERT without its pooling layer.

    Args:
        name: Hub name or local folder of the published weights; not read when ``pretrained=False``.
        pretrained: ``False`` builds a BERT of the four sizes below with random weights and a vocabulary made in code: it needs no network.
        pooling: The state of ``[CLS]``, or the mean over all tokens.
        hidden_size: Width; of the network from scratch only, as the next two.
        num_layers: Number of layers.
        num_heads: Attention heads.
        max_length: Most tokens of a sentence, ``[CLS]`` and ``[SEP]`` included.
        dropout: On hidden states and attention weights, in [0, 1).
        freeze: ``'all'`` trains nothing of this tower.

    Raises:
        BuildError: Published weights cannot be had, do not fit, or are not BERT's.

    Source: Devlin et al. 2019 (arXiv:1810.04805).
    """

    def __init__(
        self,
        name: str = "bert-base-chinese",
        pretrained: bool = True,
        pooling: Literal["cls", "mean"] = "cls",
        hidden_size: int = 256,
        num_layers: int = 4,
        num_heads: int = 4,
        max_length: int = 64,
        dropout: float = 0.1,
        freeze: Literal["none", "all"] = "none",
    ):
        super().__init__(freeze)
        check_choice("BERT", "pooling", pooling, ("cls", "mean"))
        check_positive("BERT", hidden_size=hidden_size, num_layers=num_layers, num_heads=num_heads)
        if not 0 <= dropout < 1:
            raise ConfigError(f"BERT: dropout={dropout!r} must lie in [0, 1)")
        self.pooling, self.context_length = pooling, max_length
        if pretrained:
            self.name = name
            self._from_weights(os.path.expanduser(name), dropout)
        else:
            self.name = f"{num_layers} layers of width {hidden_size}"
            self._from_scratch(hidden_size, num_layers, num_heads, dropout)
        self.num_features = self.bert.config.hidden_size
        self.apply_freeze()

    def forward(self, tokens: Tokens) -> Tensor:
        """``[N, L]`` tokens to ``[N, num_features]``."""
        # BertModel.forward makes the mask itself, and looks on the host whether it masks anything: that waits for the device every step.
        mask_N11L = padding_mask(tokens)[:, None, None, :]
        hidden_NLD = self.bert.encoder(self.bert.embeddings(input_ids=tokens.ids), attention_mask=mask_N11L)[0]
        return pool(hidden_NLD, tokens, self.pooling)

    def depth_groups(self) -> list[list[str]]:
        """Embeddings, then one group per layer."""
        return groups_by_layer((n for n, _ in self.named_parameters()), r"\.layer\.(\d+)\.", r"\.embeddings\.")

    def _from_weights(self, name: str, dropout: float) -> None:
        from transformers import BertModel

        config = read_config("BERT", name)
        if config.model_type != "bert":
            raise BuildError(f"BERT: '{name}' is a {config.model_type} model, not BERT. Use hf:{name}")
        check_context("BERT", self.context_length, longest_context(config))
        self.tokenizer = HFTokenizer(read_tokenizer("BERT", name), self.context_length)
        rates = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
        self.bert = read_model("BERT", name, BertModel, add_pooling_layer=False, attn_implementation="sdpa", **rates)
        self.weights = where_from(name)

    def _from_scratch(self, hidden_size: int, num_layers: int, num_heads: int, dropout: float) -> None:
        from transformers import BertConfig, BertModel

        if hidden_size % num_heads:
            raise ConfigError(f"BERT: hidden_size={hidden_size} is no multiple of num_heads={num_heads}")
        self.tokenizer = WordPieceTokenizer(self.context_length)
        config = BertConfig(
            vocab_size=self.tokenizer.vocab_size,
            hidden_size=hidden_size,
            num_hidden_layers=num_layers,
            num_attention_heads=num_heads,
            intermediate_size=4 * hidden_size,
            max_position_embeddings=self.context_length,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
            attn_implementation="sdpa",
        )
        self.bert = BertModel(config, add_pooling_layer=False)
