"""CLIP: an image tower and a text tower with a joint space.

Shapes: B cases · U distinct captions of the batch · S class captions · C classes · T captions of the table · D embedding width.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clipzoo.config.arguments import Positive, Width
from clipzoo.errors import BuildError, ConfigError
from clipzoo.models.base import Model
from clipzoo.models.heads import Head, LinearProjection
from clipzoo.models.pooling import in_full
from clipzoo.models.prototypes import class_prototypes
from clipzoo.models.temperature import check_temperature, clamp_learned
from clipzoo.registries import MODELS
from clipzoo.structures import TEXT_CHUNK, Batch, ClassCaptions, Tokens


@MODELS.register_module()
class CLIP(Model):
    """Trains an image tower and a text tower such that images are close to the captions that describe them.

    Args:
        image_encoder: Image tower, a ``Backbone``.
        text_encoder: Text tower, a ``TextEncoder``.
        loss: Contrastive loss, a ``Loss``; ``None`` means ``MultiPositiveContrastiveLoss()``.
        embed_dim: Width of the joint space, D. ``None``: that of the towers whose features are already in a joint space, if they agree,
            otherwise 512.
        temperature: Divisor of cosine similarities; the initial value if learned. ``None``: that of both towers' weights if they come from
            one model, otherwise 0.07. With the temperature of weights, a sigmoid loss also starts from their bias.
        learn_temperature: Whether to learn the temperature, which then stays in [0.01, 1].
        image_projection: ``Head`` from the image tower to the joint space. ``None``: ``LinearProjection``, or none if the tower's features
            are already in a joint space of this width: it may be a different space, as such a tower ends in its own projection, which is
            adapted in training.
        text_projection: A ``Head`` from the text tower to the joint space, likewise.
        in_batch_measures: Whether to report, besides the loss, how well the captions of a training batch are distinguished; see
            ``in_batch_measures`` below. The values depend on the batch size, and are not classification or retrieval metrics.

    Attributes:
        logit_scale: Scalar, the log of 1 / temperature. Stored in checkpoints whether learned or not.

    Raises:
        ConfigError: ``temperature`` is out of range.
        BuildError: The towers come from one model but have different activations; or they come from two models and nothing between them is
            trained; or the loss is a classification loss.

    Source: Radford et al. 2021 (arXiv:2103.00020), Figure 3. Each distinct caption is encoded once, with a frozen text tower once per run.
    """

    takes_features = True
    takes_mixed = True
    takes_views = True
    check_together = staticmethod(check_temperature)

    def __init__(
        self,
        image_encoder: nn.Module,
        text_encoder: nn.Module,
        loss: nn.Module | None = None,
        embed_dim: Width | None = None,
        temperature: Positive | None = None,
        learn_temperature: bool = True,
        image_projection: nn.Module | None = None,
        text_projection: nn.Module | None = None,
        in_batch_measures: bool = False,
    ):
        super().__init__()
        if loss is None:
            from clipzoo.models.losses import MultiPositiveContrastiveLoss

            loss = MultiPositiveContrastiveLoss()
        if not hasattr(loss, "captions"):
            raise BuildError(
                f"CLIP: {type(loss).__name__} is a classification loss, but CLIP compares images with captions. "
                "Choose CaptionCrossEntropyLoss or MultiPositiveContrastiveLoss, or the model ImageClassifier"
            )
        self.embed_dim = embed_dim = _joint_width(image_encoder, text_encoder) if embed_dim is None else embed_dim
        self.image_encoder = image_encoder
        self.text_encoder = text_encoder
        self.image_projection = _projection(image_encoder, image_projection, embed_dim)
        self.text_projection = _projection(text_encoder, text_projection, embed_dim)
        _check_spaces(self)
        log_scale = -math.log(temperature or 0.07)
        if temperature is None and _one_space(image_encoder, text_encoder) and text_encoder.logit_scale is not None:
            log_scale = text_encoder.logit_scale
            if text_encoder.logit_bias is not None and hasattr(loss, "logit_bias"):
                nn.init.constant_(loss.logit_bias, text_encoder.logit_bias)
        self.logit_scale = nn.Parameter(torch.tensor(log_scale), requires_grad=learn_temperature)
        self.loss = loss
        self.in_batch_measures = in_batch_measures
        self.preprocessing = image_encoder.preprocessing
        self.tokenizer = text_encoder.tokenizer
        self._cached_tokens: Tokens | None = None
        self.register_buffer("text_table", None, persistent=False)  # [T, features of the text tower] once cached

    @property
    def captions(self) -> Literal["batch", "all"]:
        """The captions that the loss requires."""
        return self.loss.captions

    def forward(self, batch: Batch, feature_gradients: tuple[Tensor, Tensor] | None = None) -> dict[str, Tensor]:
        """The loss between the batch's images and captions, named ``image_text``; see ``Model.forward``."""
        features = self.encode(batch)
        if feature_gradients is None:
            return self.contrast(*features, batch)
        product = sum((feature * gradient).sum() for feature, gradient in zip(features, feature_gradients, strict=True))
        # The other parameters already have their gradients; a zero term includes them, so that DDP does not wait for them.
        others = [self.logit_scale, *self.loss.parameters()]
        return {"product": product + 0 * sum(parameter.sum() for parameter in others if parameter.requires_grad)}

    def encode(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """``[B, D]`` image features and ``[U, D]`` caption features of the batch."""
        image_BD = self.encode_image(batch.images, batch.features, batch.num_images)
        return image_BD, self.encode_text(batch.text, batch.caption_ids)

    def contrast(self, image_BD: Tensor, text_UD: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The loss between features, and the in-batch measures if enabled; the images and text of ``batch`` are not used."""
        losses = {"image_text": batch.mixed_loss(lambda described: self.loss(image_BD, text_UD, self._scale(), described))}
        if self.in_batch_measures:
            losses.update(in_batch_measures(image_BD, text_UD, self._scale(), batch))
        return losses

    def predict(self, batch: Batch, classes: Tensor) -> Tensor:
        """``[B, C]`` fp32: similarity of each image to the class prototypes, divided by the temperature; for findings, plus the bias.

        Args:
            batch: Batch, of which only its images, or their features, are used.
            classes: ``[C, D]`` prototypes from ``encode_classes``.
        """
        image_BD = self.encode_image(batch.images, batch.features, batch.num_images)
        with torch.autocast(image_BD.device.type, enabled=False):
            logits_BC = self._scale() * image_BD @ classes.T
            return (logits_BC + getattr(self.loss, "logit_bias", 0.0) if self.multi_label else logits_BC).float()

    def encode_classes(self, captions: ClassCaptions) -> Tensor:
        """``[C, D]`` prototypes: the normalised mean of the normalised features of each class's captions."""
        text_SD = self._encode_rows(captions.tokens, captions.caption_ids)
        return class_prototypes(text_SD, captions.labels.to(text_SD.device), captions.num_classes)

    def encode_captions(self, tokens: Tokens, ids: Tensor | None = None) -> Tensor:
        """Encode captions of a table in chunks of similar length, which keeps padding small; ``[T, D]`` of unit length.

        Args:
            tokens: Caption table; if it is the one given to ``cache_text``, cached features are looked up.
            ids: ``[T]`` rows of the table; ``None`` for all.
        """
        ids = torch.arange(len(tokens)) if ids is None else ids
        return self._encode_rows(tokens.take(ids.to(tokens.ids.device)), ids)

    def _encode_rows(self, chosen: Tokens, ids: Tensor) -> Tensor:
        """``[T, D]`` features of ``chosen``, which are rows ``ids`` of some table; looked up if it is the cached one."""
        device = self.logit_scale.device
        if self._in_table(chosen, ids):
            rows_TF = self.text_table[ids.to(device)]
        elif self.text_encoder.frozen and not self.training:
            rows_TF = self._read_frozen(chosen)
        else:
            return chosen.encoded(self.encode_text, device)
        return torch.cat([_normalised(self.text_projection(rows)) for rows in rows_TF.split(TEXT_CHUNK)])

    def _read_frozen(self, tokens: Tokens, chunk: int = TEXT_CHUNK) -> Tensor:
        """``[T, F]`` text tower outputs for captions, in full precision also under autocast."""
        device = self.logit_scale.device
        with torch.autocast(device.type, enabled=False):
            return in_full(tokens.encoded(self.text_encoder, device, chunk))

    def encode_image(self, images: Tensor | None, features: Tensor | None = None, num_images: Tensor | None = None) -> Tensor:
        """``[B, 3, H, W]`` to ``[B, D]`` of unit length, in fp32.

        Args:
            images: Images normalised by ``preprocessing``; ignored if ``features`` are given.
            features: ``[B, F]`` cached outputs of the image tower, if any.
            num_images: See ``tower_features``: the outputs of a case's images are averaged before the projection.
        """
        return _normalised(self.image_projection(self.tower_features(images, features, num_images)))

    def encode_text(self, tokens: Tokens | None, caption_ids: Tensor | None = None) -> Tensor:
        """Captions to ``[U, D]`` of unit length, in fp32.

        Args:
            tokens: Tokens of U captions; may be ``None`` if the table is cached and ``caption_ids`` is given.
            caption_ids: ``[U]`` rows of the table given to ``cache_text``; ``None`` always runs the tower.
        """
        if self.text_table is not None and caption_ids is not None:
            return _normalised(self.text_projection(self.text_table[caption_ids]))
        return _normalised(self.text_projection(self.text_encoder(tokens)))

    def prepare(self, captions: Tokens) -> None:
        """Encode the whole caption table once if the text tower is frozen."""
        if self.text_encoder.frozen:
            self.cache_text(captions)

    @torch.no_grad()
    def cache_text(self, tokens: Tokens, chunk: int = TEXT_CHUNK) -> None:
        """Encode the whole caption table once, in fp32; the frozen text tower then becomes a lookup. The table is not saved.

        Args:
            tokens: Caption table of T captions; the row is the caption id.
            chunk: Captions per encoder call. They are sorted by length, which keeps padding small.

        Raises:
            ConfigError: The text tower is trained, so that the table would be outdated after one step.
        """
        if not self.text_encoder.frozen:
            raise ConfigError("CLIP: only a frozen text encoder can be cached. Set text_encoder.freeze='all'")
        self.text_table = self._read_frozen(tokens, chunk)
        self._cached_tokens = tokens.to("cpu")

    def checkpoint_gradients(self) -> None:
        """See ``Model.checkpoint_gradients``; a frozen tower keeps no activations in any case."""
        for tower in (self.image_encoder, self.text_encoder):
            if not tower.frozen:
                tower.checkpoint_gradients()

    def after_step(self) -> None:
        """Clamp the learned temperature to its range."""
        clamp_learned(self.logit_scale)

    def describe(self) -> list[str]:
        """Lines for the log: towers, joint space, temperature, loss, and numbers of trained parameters."""
        temperature = math.exp(-self.logit_scale.item())
        learned = "learned" if self.logit_scale.requires_grad else "fixed"
        cached = "" if self.text_table is None else f", text table of {len(self.text_table)} captions"
        return [
            f"image encoder {self.image_encoder.describe()}",
            f"text encoder {self.text_encoder.describe()}{cached}",
            f"joint space of width {self.embed_dim}, temperature {temperature:.4g} ({learned}), {type(self.loss).__name__}",
            *super().describe(),
        ]

    def _scale(self) -> Tensor:
        """1 / temperature, in at least fp32."""
        return in_full(self.logit_scale).exp()

    def _in_table(self, chosen: Tokens, ids: Tensor) -> bool:
        """Are these tokens rows ``ids`` of the cached table? In another dataset, the ids refer to other sentences."""
        table, ids = self._cached_tokens, ids.cpu()
        if table is None or (len(ids) and (int(ids.min()) < 0 or int(ids.max()) >= len(table))):
            return False
        rows = table.take(ids)
        return torch.equal(rows.lengths, chosen.lengths.cpu()) and torch.equal(rows.ids, chosen.ids.cpu()[:, : rows.ids.shape[1]])


@torch.no_grad()
def in_batch_measures(image_BD: Tensor, text_UD: Tensor, logit_scale: Tensor, batch: Batch) -> dict[str, Tensor]:
    """How well the captions of one process's batch are distinguished; harder for batches with more captions.

    Returns:
        ``in_batch_accuracy``: share of images whose most similar caption in the batch describes them. ``in_batch_similarity``: softmax
            probability, over the captions of the batch, of those that describe the image, averaged over the images. Images without a
            caption (without findings) are left out.
    """
    positives_BU = batch.positives()
    logits_BU = in_full(logit_scale) * in_full(image_BD) @ in_full(text_UD).T
    hits_B = positives_BU.gather(1, logits_BU.argmax(dim=1, keepdim=True))
    shares_B = (logits_BU.softmax(dim=1) * positives_BU).sum(dim=1)
    described = positives_BU.any(dim=1).sum().clamp(min=1)
    return {"in_batch_accuracy": hits_B.sum() / described, "in_batch_similarity": shares_B.sum() / described}


def _joint_width(*towers: nn.Module) -> int:
    """The width of the joint space that the towers' features are already in; 512, as in most CLIPs, if none exists, or several do."""
    widths = {tower.num_features for tower in towers if tower.projected}
    return widths.pop() if len(widths) == 1 else 512


def _one_space(image_encoder: nn.Module, text_encoder: nn.Module) -> bool:
    """Were both towers' weights trained together?"""
    return image_encoder.space is not None and image_encoder.space == text_encoder.space


def _check_spaces(model: CLIP) -> None:
    """Refuse incompatible towers.

    Raises:
        BuildError: The towers are incompatible; the message gives the fix.
    """
    image, text = model.image_encoder, model.text_encoder
    activations = {"image_encoder": image.quick_gelu, "text_encoder": text.quick_gelu}
    if _one_space(image, text):
        if None not in activations.values() and image.quick_gelu != text.quick_gelu:
            words = ", ".join(f"{name}.quick_gelu={value}" for name, value in activations.items())
            raise BuildError(f"CLIP: {words}, but both towers come from one model ({image.weights}). Set the same value for both")
    elif image.space is not None and text.space is not None:
        projections = [*model.image_projection.parameters(), *model.text_projection.parameters()]
        if image.frozen and text.frozen and not projections:
            raise BuildError(
                f"CLIP: the towers have two different joint spaces ({image.weights}; {text.weights}), both are frozen, and nothing "
                "between them is trained. Set image_projection='LinearProjection', or freeze only one of them"
            )


def _projection(tower: nn.Module, head: nn.Module | None, embed_dim: int) -> nn.Module:
    if head is None:
        if tower.projected and tower.num_features == embed_dim:
            return nn.Identity()
        head = LinearProjection()
    return head.connect(tower.num_features, embed_dim) if isinstance(head, Head) else head


def _normalised(features: Tensor) -> Tensor:
    with torch.autocast(features.device.type, enabled=False):
        return F.normalize(in_full(features), dim=-1)
