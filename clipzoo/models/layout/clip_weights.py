"""The weights of a whole CLIP, independent of the file format: both towers, the scale, and everything that belongs to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from clipzoo.errors import BuildError
from clipzoo.structures import Preprocessing

Format = Literal["openai-torchscript", "openai", "open_clip", "transformers", "chinese-clip", "clipzoo"]

# Preprocessing of OpenAI's CLIP; open_clip and transformers use the same if a file defines none.
OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)
# Maximum number of tokens in all published Chinese-CLIP models; their position embeddings have 512 rows.
CHINESE_CONTEXT = 52


@dataclass(frozen=True)
class CLIPWeights:
    """Both towers of a CLIP under uniform names, and all sizes determined by the tensors.

    Attributes:
        format: Format of the file.
        visual: Image tower in fp32, with OpenAI's names without ``visual.``.
        text: Text tower in fp32. ``text_kind='clip'``: OpenAI's names (``token_embedding.weight`` … ``text_projection``
            ``[text width, embed_dim]``). ``'bert'``: names of Hugging Face's ``BertModel`` without a pooling layer, and ``text_projection``
            likewise.
        text_kind: Kind of text tower; ``'clip'`` is pooled at its end-of-text token, ``'bert'`` at its ``[CLS]``.
        text_config: Fields of ``BertConfig``, for ``'bert'``.
        files: Tokenizer files, name to content; empty for OpenAI's byte pairs (``'clip'``), or if the file has none (``'bert'``).
        logit_scale: Log of 1 / temperature.
        logit_bias: Bias of sigmoid losses; ``None`` without one.
        quick_gelu: Whether both CLIP transformers use ``x * sigmoid(1.702 x)`` instead of GELU; ``None`` if the file does not define it.
        preprocessing: Preprocessing of images; ``None`` if the file does not define it.
        context_length: Maximum number of tokens: the rows of a CLIP's position embedding, or the limit in a BERT's training.
        embed_dim: Width of the joint space.
        vision_kind: ``'vit'``, or ``'resnet'`` for OpenAI's modified ResNet with attention pooling.
        image_size: Image size in pixels.
        patch_size: Patch size in pixels; ``None`` for a ResNet.
        vision_width: Width of the transformer; for a ResNet, of its first stage, a quarter of that stage's output channels.
        vision_layers: Number of blocks; for a ResNet, in each of the four stages.
        vision_heads: Number of attention heads; for a ResNet, those of the attention pooling.
        vision_mlp: Width inside the blocks' MLPs; ``None`` for a ResNet.
        text_width: Width of the text transformer.
        text_layers: Number of blocks in the text transformer.
        text_heads: Number of attention heads in the text transformer.
        text_mlp: Width inside the text blocks' MLPs.
        vocab_size: Number of rows of the token embedding.
    """

    format: Format
    visual: dict[str, Tensor]
    text: dict[str, Tensor]
    logit_scale: float
    embed_dim: int
    vision_kind: Literal["vit", "resnet"]
    image_size: int
    patch_size: int | None
    vision_width: int
    vision_layers: int | tuple[int, int, int, int]
    vision_heads: int
    vision_mlp: int | None
    text_width: int
    text_layers: int
    text_heads: int
    text_mlp: int
    vocab_size: int
    context_length: int
    text_kind: Literal["clip", "bert"] = "clip"
    text_config: dict | None = None
    files: dict[str, str] = field(default_factory=dict)
    logit_bias: float | None = None
    quick_gelu: bool | None = None
    preprocessing: Preprocessing | None = None

    def activation(self, requested: bool | None, where: str) -> bool:
        """Whether the activation is QuickGELU, as defined by the file or, if it does not define it, by the caller.

        Args:
            requested: The caller's value; ``None`` leaves it to the file.
            where: Start of the message.

        Raises:
            BuildError: Neither defines the activation, or they contradict each other.
        """
        if self.quick_gelu is None and requested is None:
            raise BuildError(
                f"{where}: the file does not define the activation that its weights were trained with, and the "
                "wrong one silently degrades them. Pass quick_gelu=True (OpenAI's weights) or quick_gelu=False (most others)"
            )
        if requested is None or self.quick_gelu is None:
            return bool(self.quick_gelu if requested is None else requested)
        if requested != self.quick_gelu:
            raise BuildError(
                f"{where}: quick_gelu={requested}, but the {self.format} weights were trained with quick_gelu={self.quick_gelu}. Remove it"
            )
        return requested

    def require(self, where: str, *, vision: Literal["vit", "resnet"] | None = None, text: Literal["clip", "bert"] | None = None) -> None:
        """Refuse towers of another kind.

        Raises:
            BuildError: A tower is of another kind; the message gives both kinds.
        """
        if vision is not None and vision != self.vision_kind:
            raise BuildError(f"{where}: the weights' image tower is {self.describe_vision()}, but {_VISION[vision]} is required")
        if text is not None and text != self.text_kind:
            raise BuildError(f"{where}: the weights' text tower is {self.describe_text()}, but {_TEXT[text]} is required")

    def describe_vision(self) -> str:
        """The image tower in words."""
        size = f"{self.vision_layers} layers of width {self.vision_width}, {self.image_size} px"
        return f"{_VISION[self.vision_kind]} of {size}" + ("" if self.patch_size is None else f", patch {self.patch_size}")

    def describe_text(self) -> str:
        """The text tower in words."""
        return f"{_TEXT[self.text_kind]} of {self.text_layers} layers of width {self.text_width}, {self.vocab_size} tokens"


_VISION = {"vit": "a vision transformer", "resnet": "CLIP's ResNet"}
_TEXT = {"clip": "CLIP's text transformer", "bert": "a BERT"}
