"""What every text tower is."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from clipzoo.errors import BuildError
from clipzoo.models.base import Tower, full_name
from clipzoo.structures import Tokenizer, Tokens


class TextEncoder(Tower):
    """Base of all text towers. Trimming or lengthening the padding of its input never changes its features.

    Attributes:
        tokenizer: Turns sentences into this tower's tokens.
        context_length: Most tokens of a sentence, start and end token included.
    """

    tokenizer: Tokenizer
    context_length: int

    def forward(self, tokens: Tokens) -> Tensor:
        """Tokens of N sentences, padded on the right, to ``[N, num_features]``."""
        raise NotImplementedError(f"{type(self).__name__} has no method 'forward'")

    def clip_layout(self, where: str) -> tuple[dict[str, Tensor], dict]:
        """For export: copies of its tensors with open_clip's names, ``text_projection`` included, and further fields of ``CLIPWeights``.

        Raises:
            BuildError: Other libraries' CLIPs have no such text tower.
        """
        raise BuildError(f"{where}: the text tower is {full_name(self)}, which other libraries' CLIPs have not. CLIPText or BERT is needed")

    def describe(self) -> str:
        """One line for the log."""
        return f"{super().describe()}, at most {self.context_length} tokens"


def padding_mask(tokens: Tokens) -> Tensor:
    """``[N, L]`` bool, true where there is a token and not padding."""
    return torch.arange(tokens.ids.shape[1], device=tokens.ids.device)[None, :] < tokens.lengths[:, None]


def pool(hidden_NLD: Tensor, tokens: Tokens, pooling: Literal["cls", "mean"]) -> Tensor:
    """``[N, D]`` from ``[N, L, D]``: the first token's state, or the mean over the tokens that are not padding."""
    if pooling == "cls":
        return hidden_NLD[:, 0]
    mask_NL1 = padding_mask(tokens)[:, :, None]
    # In fp32: a sum over many tokens loses digits in half precision. 'where', not a product, as padding may hold anything.
    total_ND = torch.where(mask_NL1, hidden_NLD, 0).sum(dim=1, dtype=torch.promote_types(hidden_NLD.dtype, torch.float32))
    return (total_ND / tokens.lengths[:, None]).to(hidden_NLD.dtype)
