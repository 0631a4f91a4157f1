"""The weights of a whole CLIP, whatever file they came from: both towers, the scale, and what must travel with them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from clipzoo.errors import BuildError
from clipzoo.structures import Preprocessing

Format = Literal["openai-torchscript", "openai", "open_clip", "transformers", "chinese-clip", "clipzoo"]

# What OpenAI's CLIP was trained with; open_clip and transformers take the same where a file says nothing.
OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)
# Most tokens of a sentence in all of Chinese-CLIP's published models; their position embeddings would hold 512.
CHINESE_CONTEXT = 52


@dataclass(frozen=True)
class CLIPWeights:
    """Both towers of a CLIP in one naming, and every size that its tensors decide.

    Attributes:
        format: What the file was.
        visual: The image tower in fp32, with OpenAI's names without ``visual.``.
        text: The text tower in fp32. ``text_kind='clip'``: OpenAI's names (``token_embedding.weight`` … ``text_projection``
            ``[text width, embed_dim]``). ``'bert'``: names of Hugging Face's ``BertModel`` without a pooling layer, and ``text_projection``
            likewise.
        text_kind: ``'clip'`` is read at its end-of-text token, ``'bert'`` at its ``[CLS]``.
        text_config: Of ``BertConfig``, for ``'bert'``.
        files: Tokenizer files, name to content; empty means OpenAI's byte pairs for ``'clip'``, and for ``'bert'`` that the file has none.
        logit_scale: Log of 1 / temperature.
        logit_bias: Of sigmoid losses; ``None`` without one.
        quick_gelu: The activation is ``x * sigmoid(1.702 x)`` in place of GELU, in both CLIP transformers; ``None``: the file does not say.
        preprocessing: ``None``: the file does not say.
        context_length: Most tokens of a sentence: the rows of a CLIP's position embedding; what a BERT was trained with.
        embed_dim: Width of the joint space.
        vision_kind: ``'vit'``, or ``'resnet'`` for OpenAI's modified ResNet with attention pooling.
        image_size: Pixels.
        patch_size: Pixels; ``None`` for a ResNet.
        vision_width: Of the transformer; of the first stage of a ResNet, a quarter of its output channels.
        vision_layers: Blocks; of a ResNet, blocks of the four stages.
        vision_heads: Attention heads; of a ResNet, those of the attention pooling.
        vision_mlp: Width inside the blocks' MLPs; ``None`` for a ResNet.
        text_width: Of the transformer.
        text_layers: Blocks.
        text_heads: Attention heads.
        text_mlp: Width inside the blocks' MLPs.
        vocab_size: Rows of the token embedding.
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

    def activation(self, said: bool | None, where: str) -> bool:
        """Whether the activation is QuickGELU: as the file says, or, where it does not, as the caller says.

        Args:
            said: What the caller says; ``None`` leaves it to the file.
            where: First words of the message.

        Raises:
            BuildError: Neither says it, or they contradict each other.
        """
        if self.quick_gelu is None and said is None:
            raise BuildError(
                f"{where}: the file does not say which activation its weights were trained with, and the "
                "wrong one silently spoils them. Say quick_gelu=True (OpenAI's weights) or quick_gelu=False (most others)"
            )
        if said is None or self.quick_gelu is None:
            return bool(self.quick_gelu if said is None else said)
        if said != self.quick_gelu:
            raise BuildError(
                f"{where}: quick_gelu={said}, but the {self.format} weights were trained with quick_gelu={self.quick_gelu}. Leave it out"
            )
        return said

    def require(self, where: str, *, vision: Literal["vit", "resnet"] | None = None, text: Literal["clip", "bert"] | None = None) -> None:
        """Refuse towers of another kind.

        Raises:
            BuildError: With what the weights are and what was wanted.
        """
        if vision is not None and vision != self.vision_kind:
            raise BuildError(f"{where}: the weights' image tower is {self.vision_words()}, but {_VISION[vision]} is wanted")
        if text is not None and text != self.text_kind:
            raise BuildError(f"{where}: the weights' text tower is {self.text_words()}, but {_TEXT[text]} is wanted")

    def vision_words(self) -> str:
        """The image tower in words."""
        size = f"{self.vision_layers} layers of width {self.vision_width}, {self.image_size} px"
        return f"{_VISION[self.vision_kind]} of {size}" + ("" if self.patch_size is None else f", patch {self.patch_size}")

    def text_words(self) -> str:
        """The text tower in words."""
        return f"{_TEXT[self.text_kind]} of {self.text_layers} layers of width {self.text_width}, {self.vocab_size} tokens"


_VISION = {"vit": "a vision transformer", "resnet": "CLIP's ResNet"}
_TEXT = {"clip": "CLIP's text transformer", "bert": "a BERT"}
