"""CLIP's text tower: a causal transformer over byte pairs, with OpenAI's parameter names.

Shapes: N sentences · L tokens · D width · H heads · E output width.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import asdict, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clipzoo.config.arguments import FilePath, Layers, Whole, Width
from clipzoo.errors import BuildError, ConfigError
from clipzoo.models.layout.open_clip import with_matrix
from clipzoo.models.layout.sizes import text_sizes
from clipzoo.models.layout.states import copied, load_strictly
from clipzoo.models.lora import Adapters
from clipzoo.models.recompute import recomputed
from clipzoo.models.text_encoders.base import TextEncoder
from clipzoo.models.text_encoders.tokenizer import CLIPTokenizer, ContextLength
from clipzoo.models.tower import groups_by_layer
from clipzoo.models.weights import CLIPWeights
from clipzoo.models.weights.source import TEXT, TextSize, Variant, joint_weights
from clipzoo.registries import TEXT_ENCODERS
from clipzoo.structures import Tokens


@TEXT_ENCODERS.register_module()
class CLIPText(TextEncoder):
    """CLIP's text tower, pooled at the end-of-text token and projected into the joint space.

    Args:
        variant: Variant that defines all sizes below. ``None``: the sizes of the weights file, if any, otherwise those of ViT-B/32.
        pretrained: ``True`` loads OpenAI's weights from the hub; a string is a file or folder with a whole CLIP in any format supported by
            ``clipzoo.models.weights``; ``False`` for random weights.
        context_length: Maximum number of tokens. ``None``: that of the weights, otherwise 77. Loaded position embeddings are cut to it.
        freeze: ``'all'`` freezes the whole tower.
        unfreeze_blocks: Number of last depth groups that are trained; ``None`` leaves the choice to ``freeze``.
        lora: Adapters that are trained instead of the weights: ``rank``, ``alpha`` and ``dropout``; ``None`` for none.
        width: Width of the transformer.
        layers: Number of blocks.
        heads: Number of attention heads.
        output_dim: Width of the features.
        quick_gelu: Activation: ``True`` for QuickGELU (OpenAI's weights), ``False`` for GELU (most others). ``None``: that of the weights,
            ``False`` for random ones; required for a local file that does not define it.
        mlp_width: Width inside the blocks' MLPs; ``None`` means four times the width, or that of the file.

    Raises:
        ConfigError: The sizes are incompatible.
        BuildError: Weights are missing, do not fit or contradict an argument, or their activation is unknown.

    Source: Radford et al. 2021 (arXiv:2103.00020), section 2.4. Sequences are trimmed to the longest sentence, and only the end-of-text
    position is normalised and projected; both are exact, because attention is causal.
    """

    projected = True
    token_table = "token_embedding"

    def __init__(
        self,
        variant: Variant | None = None,
        pretrained: bool | FilePath = False,
        context_length: ContextLength | None = None,
        freeze: Literal["none", "all"] = "none",
        unfreeze_blocks: Whole | None = None,
        lora: Adapters | None = None,
        width: Width | None = None,
        layers: Layers | None = None,
        heads: Width | None = None,
        output_dim: Width | None = None,
        quick_gelu: bool | None = None,
        mlp_width: Width | None = None,
    ):
        super().__init__(freeze, unfreeze_blocks, lora)
        own = {"width": width, "layers": layers, "heads": heads, "output_dim": output_dim, "mlp_width": mlp_width}
        variant = variant or ("ViT-B/32" if pretrained is True else None)
        source = joint_weights("CLIPText", variant, pretrained)
        weights = None if source is None else source.weights
        self.size = _sizes(variant, weights, own)
        self.name = next(
            (name for name, size in TEXT.items() if size == self.size), f"{self.size.layers} layers of width {self.size.width}"
        )
        self.num_features = self.size.output_dim
        longest = 77 if weights is None else weights.context_length
        self.context_length = longest if context_length is None else context_length
        self.tokenizer = CLIPTokenizer(self.context_length)
        self.quick_gelu = bool(quick_gelu) if weights is None else weights.activation(quick_gelu, "CLIPText")
        self._build(self.size)
        if source is not None:
            load_strictly(self, _cut(source.weights.text, self.context_length), f"CLIPText({source.origin})")
            self.weights, self.space = source.origin, source.space
            self.logit_scale, self.logit_bias = source.weights.logit_scale, source.weights.logit_bias
        self._recompute = False
        self.apply_freeze()

    def forward(self, tokens: Tokens) -> Tensor:
        """``[N, L]`` tokens to ``[N, E]``, the projected state of the end-of-text token."""
        hidden_NLD = self.token_embedding(tokens.ids) + self.positional_embedding[: tokens.ids.shape[1]]
        for block in self.transformer.resblocks:
            hidden_NLD = recomputed(block, hidden_NLD) if self._recompute else block(hidden_NLD)
        rows_N = torch.arange(tokens.ids.shape[0], device=tokens.ids.device)
        return self.ln_final(hidden_NLD[rows_N, tokens.lengths - 1]) @ self.text_projection

    def depth_groups(self) -> list[list[str]]:
        """Embeddings, then one group per block; the final norm and the projection belong to the last block."""
        return groups_by_layer((n for n, _ in self.named_parameters()), r"resblocks\.(\d+)\.", r"embedding")

    def blueprint(self) -> dict:
        """See ``Tower.blueprint``."""
        own = {"variant": None, "context_length": self.context_length, "quick_gelu": self.quick_gelu}
        return {"pretrained": False, **own, **asdict(self.size)}

    def clip_layout(self, where: str) -> tuple[dict[str, Tensor], dict]:
        """See ``TextEncoder.clip_layout``."""
        return clip_text_layout(self, self.transformer.resblocks[0].attn.heads, where)

    def checkpoint_gradients(self) -> None:
        """See ``Tower.checkpoint_gradients``."""
        self._recompute = True

    def _build(self, size: TextSize) -> None:
        self.token_embedding = nn.Embedding(CLIPTokenizer.vocab_size, size.width)
        self.positional_embedding = nn.Parameter(torch.empty(self.context_length, size.width))
        self.transformer = nn.Module()
        mlp_width = size.mlp_width or 4 * size.width
        self.transformer.resblocks = nn.ModuleList(Block(size.width, size.heads, self.quick_gelu, mlp_width) for _ in range(size.layers))
        self.ln_final = LayerNorm(size.width)
        self.text_projection = nn.Parameter(torch.empty(size.width, size.output_dim))
        self._initialise(size.width, size.layers)

    def _initialise(self, width: int, layers: int) -> None:
        """Apply OpenAI's initial standard deviations; those of the residual branches decrease with depth."""
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


def _sizes(variant: str | None, weights: CLIPWeights | None, arguments: dict[str, int | None]) -> TextSize:
    """The sizes of the variant or the file, updated with the given arguments.

    Raises:
        BuildError: The file's text tower is a BERT.
        ConfigError: The width is not divisible by the number of heads.
    """
    if weights is not None and weights.text_kind == "bert":
        raise BuildError(f"CLIPText: the weights' text tower is {weights.describe_text()}, not CLIP's own. Use chinese-clip:FILE, or BERT")
    if variant is not None or weights is None:
        base = TEXT[variant or "ViT-B/32"]
    else:
        base = TextSize(weights.text_width, weights.text_layers, weights.text_heads, weights.embed_dim, weights.text_mlp)
    size = replace(base, **{name: value for name, value in arguments.items() if value is not None})
    if size.width % size.heads:
        raise ConfigError(f"CLIPText: width={size.width} is not a multiple of heads={size.heads}")
    return replace(size, mlp_width=None) if size.mlp_width == 4 * size.width else size


def clip_text_layout(net: nn.Module, heads: int, where: str) -> tuple[dict[str, Tensor], dict]:
    """``TextEncoder.clip_layout`` of CLIP's text transformer, ours or open_clip's, whose tensor names are the same."""
    text = with_matrix(copied(net))
    sizes = text_sizes(text, where)
    return text, {**{name: value for name, value in sizes.items() if name != "context_length"}, "text_heads": heads}


def _cut(text: dict[str, Tensor], context_length: int) -> dict[str, Tensor]:
    """Truncate the position embeddings of ``text`` to ``context_length``: exact, as earlier positions never see later ones."""
    return {**text, "positional_embedding": text["positional_embedding"][:context_length]}


class Block(nn.Module):
    """A pre-norm residual block: causal self-attention, then an MLP."""

    def __init__(self, width: int, heads: int, quick_gelu: bool, mlp_width: int):
        super().__init__()
        self.ln_1 = LayerNorm(width)
        self.attn = CausalSelfAttention(width, heads)
        self.ln_2 = LayerNorm(width)
        activation = QuickGELU() if quick_gelu else nn.GELU()
        self.mlp = nn.Sequential(
            OrderedDict(c_fc=nn.Linear(width, mlp_width), gelu=activation, c_proj=nn.Linear(mlp_width, width))  # OpenAI's names
        )

    def forward(self, hidden_NLD: Tensor) -> Tensor:
        """``[N, L, D]`` to ``[N, L, D]``."""
        hidden_NLD = hidden_NLD + self.attn(self.ln_1(hidden_NLD))
        return hidden_NLD + self.mlp(self.ln_2(hidden_NLD))


class CausalSelfAttention(nn.Module):
    """Self-attention in which a token attends to itself and earlier tokens; parameters as in ``nn.MultiheadAttention``."""

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
    """Layer norm computed in the precision of its weights, even under autocast, and returned in the precision of the input."""

    def forward(self, hidden: Tensor) -> Tensor:
        """``[..., D]`` to ``[..., D]``."""
        with torch.autocast(hidden.device.type, enabled=False):
            return super().forward(hidden.to(self.weight.dtype)).to(hidden.dtype)


class QuickGELU(nn.Module):
    """``x * sigmoid(1.702 x)``, the approximation that OpenAI's CLIP was trained with."""

    def forward(self, hidden: Tensor) -> Tensor:
        """Elementwise."""
        return hidden * torch.sigmoid(1.702 * hidden)
