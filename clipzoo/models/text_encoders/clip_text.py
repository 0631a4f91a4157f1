"""CLIP's text tower: a causal transformer over byte pairs, with OpenAI's parameter names.

Shapes: N sentences · L tokens · D width · H heads · E output width.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clipzoo.errors import BuildError, ConfigError
from clipzoo.models.base import check_choice, check_positive, groups_by_layer
from clipzoo.models.pretrained import hub, load_strictly, read_state_dict
from clipzoo.models.text_encoders.base import TextEncoder
from clipzoo.models.text_encoders.tokenizer import CLIPTokenizer
from clipzoo.registries import TEXT_ENCODERS
from clipzoo.structures import Tokens

# Width, layers, heads and output width of the text towers; Radford et al. 2021, Tables 19 and 20.
VARIANTS = {
    "ViT-B/32": (512, 12, 8, 512),
    "ViT-B/16": (512, 12, 8, 512),
    "ViT-L/14": (768, 12, 12, 768),
    "RN50": (512, 12, 8, 1024),
    "RN101": (512, 12, 8, 512),
}
# Only OpenAI's own archives carry these; their models were trained with QuickGELU.
_OPENAI_MARKS = ("input_resolution", "context_length", "vocab_size")
# Keys of a whole CLIP that are no part of its text tower.
_OTHER = ("visual.", "logit_scale", "logit_bias", *_OPENAI_MARKS, "attn_mask", "text.attn_mask")


@TEXT_ENCODERS.register_module()
class CLIPText(TextEncoder):
    """CLIP's text tower, read at the end-of-text token and projected into the joint space.

    Args:
        variant: Whose text tower; it sets the four numbers below.
        pretrained: ``True`` takes OpenAI's weights from the hub; a string is a local ``.safetensors``, ``.pt`` or ``.pth`` state dict of a
            text tower or of a whole CLIP with OpenAI's or open_clip's names; ``False`` starts at random.
        context_length: Most tokens of a sentence. Loaded position embeddings are cut to it.
        freeze: ``'all'`` trains nothing of this tower.
        width: Of the transformer; ``None`` means the variant's.
        layers: Number of blocks; ``None`` means the variant's.
        heads: Attention heads; ``None`` means the variant's.
        output_dim: Width of the features; ``None`` means the variant's.
        quick_gelu: ``True`` is the activation of OpenAI's weights, ``False`` that of most others. ``None``: ``True`` for OpenAI's weights,
            ``False`` for random ones; a local file that does not say so itself needs it said.

    Raises:
        BuildError: Weights are missing or do not fit, or their activation is unknown.

    Source: Radford et al. 2021 (arXiv:2103.00020), section 2.4. The sequence is trimmed to the longest sentence, and only the end-of-text
    position is normalised and projected; both are exact, as attention is causal.
    """

    projected = True

    def __init__(
        self,
        variant: Literal["ViT-B/32", "ViT-B/16", "ViT-L/14", "RN50", "RN101"] = "ViT-B/32",
        pretrained: bool | str = False,
        context_length: int = 77,
        freeze: Literal["none", "all"] = "none",
        width: int | None = None,
        layers: int | None = None,
        heads: int | None = None,
        output_dim: int | None = None,
        quick_gelu: bool | None = None,
    ):
        super().__init__(freeze)
        check_choice("CLIPText", "variant", variant, tuple(VARIANTS))
        check_positive("CLIPText", width=width, layers=layers, heads=heads, output_dim=output_dim)
        sizes = [own or default for own, default in zip((width, layers, heads, output_dim), VARIANTS[variant], strict=True)]
        width, layers, heads, self.num_features = sizes
        if width % heads:
            raise ConfigError(f"CLIPText: width={width} is no multiple of heads={heads}")
        self.name = variant if sizes == list(VARIANTS[variant]) else f"{layers} layers of width {width}"
        self.tokenizer = CLIPTokenizer(context_length)
        self.context_length = context_length
        state = self._read(variant, pretrained)
        self.quick_gelu = self._activation(pretrained, quick_gelu, state)
        self.token_embedding = nn.Embedding(CLIPTokenizer.vocab_size, width)
        self.positional_embedding = nn.Parameter(torch.empty(context_length, width))
        self.transformer = nn.Module()
        self.transformer.resblocks = nn.ModuleList(Block(width, heads, self.quick_gelu) for _ in range(layers))
        self.ln_final = LayerNorm(width)
        self.text_projection = nn.Parameter(torch.empty(width, self.num_features))
        self._initialise(width, layers)
        if state is not None:
            load_strictly(self, self._own(state), f"CLIPText(variant='{variant}')")
            self.weights = f"OpenAI {variant}" if pretrained is True else f"file {pretrained}"
        self.apply_freeze()

    def forward(self, tokens: Tokens) -> Tensor:
        """``[N, L]`` tokens to ``[N, E]``, the projected state of the end-of-text token."""
        hidden_NLD = self.token_embedding(tokens.ids) + self.positional_embedding[: tokens.ids.shape[1]]
        for block in self.transformer.resblocks:
            hidden_NLD = block(hidden_NLD)
        rows_N = torch.arange(len(tokens), device=tokens.ids.device)
        return self.ln_final(hidden_NLD[rows_N, tokens.lengths - 1]) @ self.text_projection

    def depth_groups(self) -> list[list[str]]:
        """Embeddings, then one group per block; the final norm and the projection belong to the last block."""
        return groups_by_layer((n for n, _ in self.named_parameters()), r"resblocks\.(\d+)\.", r"embedding")

    def _initialise(self, width: int, layers: int) -> None:
        """OpenAI's initial standard deviations; the residual branches shrink with the depth."""
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.positional_embedding, std=0.01)
        nn.init.normal_(self.text_projection, std=width**-0.5)
        for block in self.transformer.resblocks:
            nn.init.normal_(block.attn.in_proj_weight, std=width**-0.5)
            nn.init.normal_(block.attn.out_proj.weight, std=width**-0.5 * (2 * layers) ** -0.5)
            nn.init.normal_(block.mlp.c_fc.weight, std=(2 * width) ** -0.5)
            nn.init.normal_(block.mlp.c_proj.weight, std=width**-0.5 * (2 * layers) ** -0.5)
            nn.init.zeros_(block.attn.in_proj_bias)
            nn.init.zeros_(block.attn.out_proj.bias)

    @staticmethod
    def _read(variant: str, pretrained: bool | str) -> dict[str, Tensor] | None:
        if pretrained is False:
            return None
        if pretrained is True:
            from open_clip.pretrained import download_pretrained, get_pretrained_cfg

            with hub("CLIPText", f"clip:{variant}", local="pretrained='FILE.safetensors' with quick_gelu=True"):
                pretrained = download_pretrained(get_pretrained_cfg(variant.replace("/", "-"), "openai"))
        return read_state_dict(pretrained, f"CLIPText(variant='{variant}')")

    @staticmethod
    def _activation(pretrained: bool | str, quick_gelu: bool | None, state: dict[str, Tensor] | None) -> bool:
        if quick_gelu is not None:
            return quick_gelu
        if isinstance(pretrained, str) and not any(mark in state for mark in _OPENAI_MARKS):
            raise BuildError(
                f"CLIPText(pretrained='{pretrained}'): the file does not say which activation its weights were trained with, and the "
                "wrong one silently spoils them. Say quick_gelu=True (OpenAI's weights) or quick_gelu=False (most others)"
            )
        return state is not None

    def _own(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The text tower's part of a CLIP's state dict, with position embeddings cut to the context."""
        state = {key: value for key, value in state.items() if not key.startswith(_OTHER)}
        state = {key.removeprefix("text."): value for key, value in state.items()}  # open_clip's CustomTextCLIP nests the tower
        positions = state.get("positional_embedding")
        if positions is not None and len(positions) > self.context_length:
            state["positional_embedding"] = positions[: self.context_length]  # exact: earlier positions never see later ones
        return state


class Block(nn.Module):
    """A pre-norm residual block: causal self-attention, then an MLP of four times the width."""

    def __init__(self, width: int, heads: int, quick_gelu: bool):
        super().__init__()
        self.ln_1 = LayerNorm(width)
        self.attn = CausalSelfAttention(width, heads)
        self.ln_2 = LayerNorm(width)
        activation = QuickGELU() if quick_gelu else nn.GELU()
        self.mlp = nn.Sequential(
            OrderedDict(c_fc=nn.Linear(width, 4 * width), gelu=activation, c_proj=nn.Linear(4 * width, width))  # OpenAI's names
        )

    def forward(self, hidden_NLD: Tensor) -> Tensor:
        """``[N, L, D]`` to ``[N, L, D]``."""
        hidden_NLD = hidden_NLD + self.attn(self.ln_1(hidden_NLD))
        return hidden_NLD + self.mlp(self.ln_2(hidden_NLD))


class CausalSelfAttention(nn.Module):
    """Self-attention in which a token sees itself and what stands before it; parameters as in ``nn.MultiheadAttention``."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(self, hidden_NLD: Tensor) -> Tensor:
        """``[N, L, D]`` to ``[N, L, D]``."""
        n, length, width = hidden_NLD.shape
        qkv = F.linear(hidden_NLD, self.in_proj_weight, self.in_proj_bias).view(n, length, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each [N, H, L, D/H]
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.out_proj(mixed.transpose(1, 2).reshape(n, length, width))


class LayerNorm(nn.LayerNorm):
    """Layer norm computed in the precision of its weights, whatever autocast hands it, and returned in the input's."""

    def forward(self, hidden: Tensor) -> Tensor:
        """``[..., D]`` to ``[..., D]``."""
        with torch.autocast(hidden.device.type, enabled=False):
            return super().forward(hidden.to(self.weight.dtype)).to(hidden.dtype)


class QuickGELU(nn.Module):
    """``x * sigmoid(1.702 x)``, the approximation that OpenAI's CLIP was trained with."""

    def forward(self, hidden: Tensor) -> Tensor:
        """Elementwise."""
        return hidden * torch.sigmoid(1.702 * hidden)
