"""Base class of all text towers."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from clipzoo.errors import BuildError
from clipzoo.models.layout.open_clip import OpenCLIPTower
from clipzoo.models.text_encoders.live_embedding import LiveEmbedding
from clipzoo.models.tower import Tower, full_name
from clipzoo.structures import Tokenizer, Tokens


class TextEncoder(Tower):
    """Base class of all text towers. Trimming or extending the padding of the input never changes the features.

    Attributes:
        tokenizer: Tokenizer of this tower.
        context_length: Maximum number of tokens per sentence, including start and end token.
        token_table: Dotted name of the ``nn.Embedding`` of the tokens, which is only ever called, with ids; ``None`` if unknown.
    """

    tokenizer: Tokenizer
    context_length: int
    token_table: str | None = None

    def forward(self, tokens: Tokens) -> Tensor:
        """Tokens of N sentences, padded on the right, to ``[N, num_features]``."""
        raise NotImplementedError(f"{type(self).__name__} has no method 'forward'")

    @property
    def token_weight(self) -> nn.Parameter | None:
        """The token table, or its live rows; ``None`` if unknown."""
        return None if self.token_table is None else self.get_submodule(self.token_table).weight

    def live_tokens(self, ids: Tensor) -> LiveEmbedding | None:
        """From now on train only these rows of the token table; see ``LiveEmbedding``. Call it before a copy or an optimizer is made.

        Args:
            ids: All tokens that training will see, of any shape.

        Returns:
            The table; ``None`` if nothing was changed: it is unknown or frozen, or most of its rows are in use.
        """
        table = None if self.token_table is None else self.get_submodule(self.token_table)
        if not isinstance(table, nn.Embedding) or not table.weight.requires_grad or not LiveEmbedding.supports(table):
            return None
        used = ids.unique().long()
        if 2 * len(used) > table.num_embeddings:
            return None
        live = LiveEmbedding(table, used)
        live.__dict__.update({name: hooks for name, hooks in vars(table).items() if name.startswith(("_forward", "_backward"))})
        self.set_submodule(self.token_table, live)
        self._fixed |= {f"{self.token_table}.factor"}
        return live

    def clip_layout(self, where: str) -> tuple[dict[str, Tensor], dict]:
        """For export: copies of the tensors under open_clip's names, with ``text_projection``, and further fields of ``CLIPWeights``.

        Raises:
            BuildError: The CLIPs of other libraries have no equivalent text tower.
        """
        instead = "Use CLIPText or BERT, or the ONNX format"
        raise BuildError(f"{where}: cannot export {full_name(self)}, as other libraries' CLIPs have no such tower. {instead}")

    def open_clip_layout(self, matrix_ED: Tensor, where: str) -> OpenCLIPTower | None:
        """For export: the tower as one of open_clip's around a Hugging Face encoder; ``None`` if only ``clip_layout`` describes it.

        Args:
            matrix_ED: Projection from the tower's features into the joint space, in fp64.
            where: Start of a message.

        Raises:
            BuildError: open_clip cannot build this network.
        """
        return None

    def describe(self) -> str:
        """One line for the log."""
        return f"{super().describe()}, at most {self.context_length} tokens"


def padding_mask(tokens: Tokens) -> Tensor:
    """``[N, L]`` bool, true for tokens and false for padding."""
    return torch.arange(tokens.ids.shape[1], device=tokens.ids.device)[None, :] < tokens.lengths[:, None]


def pool(hidden_NLD: Tensor, tokens: Tokens, pooling: Literal["cls", "mean"]) -> Tensor:
    """``[N, D]`` from ``[N, L, D]``: the state of the first token, or the mean over all tokens except padding."""
    if pooling == "cls":
        return hidden_NLD[:, 0]
    mask_NL1 = padding_mask(tokens)[:, :, None]
    # In fp32: a sum over many tokens loses precision in half precision. 'where' instead of a product, as padding may contain anything.
    total_ND = torch.where(mask_NL1, hidden_NLD, 0).sum(dim=1, dtype=torch.promote_types(hidden_NLD.dtype, torch.float32))
    return (total_ND / tokens.lengths[:, None]).to(hidden_NLD.dtype)
