"""An image tower with a classifier.

Shapes: B cases · F features of the tower · C classes · S class captions.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clipzoo.config.arguments import Count
from clipzoo.errors import BuildError, ConfigError
from clipzoo.models.base import Model
from clipzoo.models.heads import Head, LinearHead
from clipzoo.models.losses import CrossEntropyLoss, LogitLoss
from clipzoo.models.modules import describe_parameters
from clipzoo.models.pooling import in_full
from clipzoo.models.prototypes import class_prototypes
from clipzoo.registries import MODELS
from clipzoo.structures import Batch, ClassCaptions, Tokenizer, Tokens


@MODELS.register_module()
class ImageClassifier(Model):
    """Any image tower, and a head with one logit per class. Training needs no captions.

    Args:
        image_encoder: Image tower, a ``Backbone``, such as the visual tower of a CLIP.
        num_classes: Number of classes, C, at least 2. Taken from the dataset, not from the config.
        head: A ``Head`` from the tower's features to the logits. ``None``: ``LinearHead()``.
        loss: A ``LogitLoss``: a ``ClassificationLoss`` for one class per image, ``BinaryCrossEntropyLoss`` for findings. ``None``:
            ``CrossEntropyLoss()``.
        text_encoder: Text tower trained with the image tower. The head is then initialised from the class captions, as in zero-shot
            classification, instead of randomly, and the text tower is dropped before training.

    Raises:
        ConfigError: There are fewer than two classes.
        BuildError: The loss is not over logits; or, with a text tower, the head cannot start from texts, or the towers share no
            joint space.

    Source: fine-tuning and linear probes of Radford et al. 2021 (arXiv:2103.00020), section 3.2; initialisation from class captions as in
    Wortsman et al. 2022 (arXiv:2109.01903), section 3.
    """

    takes_features = True
    takes_mixed = True
    takes_views = True

    def __init__(
        self,
        image_encoder: nn.Module,
        num_classes: Count,
        head: nn.Module | None = None,
        loss: nn.Module | None = None,
        text_encoder: nn.Module | None = None,
    ):
        super().__init__()
        check_num_classes(type(self).__name__, num_classes)
        self.image_encoder = image_encoder
        self.num_classes = num_classes
        head = LinearHead() if head is None else head
        self.head = head.connect(image_encoder.num_features, num_classes) if isinstance(head, Head) else head
        self.loss = _connected(CrossEntropyLoss() if loss is None else loss, num_classes)
        if text_encoder is not None:
            _check_start(image_encoder, text_encoder, self.head)
        self.text_encoder = text_encoder
        self.preprocessing = image_encoder.preprocessing
        self._start = ""

    @property
    def captions(self) -> str:
        """``'none'``: training uses labels only."""
        return "none"

    @property
    def tokenizer(self) -> Tokenizer | None:
        """Tokenizer of the text tower, until that is dropped."""
        return None if self.text_encoder is None else self.text_encoder.tokenizer

    def initialise(self, classes: ClassCaptions | None, class_counts: Tensor) -> None:
        """Fit class weights to the training part; initialise the head from the class captions and drop the text tower, if there is one.

        Args:
            classes: Captions that represent the classes; used only with a text tower.
            class_counts: See ``Model.initialise``.

        Raises:
            BuildError: There is a text tower, but there are no class captions.
        """
        self.loss.fit(class_counts)
        if self.text_encoder is None:
            return
        if classes is None:
            raise BuildError("ImageClassifier: text_encoder: the data have no class captions to start the head from. Remove it")
        text_SD = _text_features(self.text_encoder, classes.tokens, next(self.parameters()).device)
        prototypes_CD = class_prototypes(text_SD, classes.labels.to(text_SD.device), classes.num_classes)
        self.head.start_from(prototypes_CD, _log_scale(self.image_encoder, self.text_encoder))
        self._start = f"; started from {len(classes.labels)} class captions, text tower {self.text_encoder.weights}"
        self.text_encoder = None

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The loss under its own name, and ``in_batch_accuracy``, the share of right answers among the known ones."""
        logits_BC = self.logits(self.tower_features(batch.images, batch.features, batch.num_images))
        with torch.no_grad():
            accuracy = self.loss.accuracy(logits_BC, batch)
        loss = batch.mixed_loss(lambda described: self.loss(logits_BC, self.loss.target(described)))
        return {self.loss.name: loss, "in_batch_accuracy": accuracy}

    def predict(self, batch: Batch, classes: object | None = None) -> Tensor:
        """``[B, C]`` fp32 logits; only the images, or their features, are used."""
        return self.logits(self.tower_features(batch.images, batch.features, batch.num_images)).float()

    def logits(self, features_BF: Tensor) -> Tensor:
        """``[B, F]`` features of the tower to ``[B, C]``. The head works in fp32 even under autocast; fp64 stays fp64."""
        with torch.autocast(features_BF.device.type, enabled=False):
            return self.head(in_full(features_BF))

    def encode_image(self, images: Tensor | None, features: Tensor | None = None, num_images: Tensor | None = None) -> Tensor:
        """``[B, 3, H, W]`` to the tower's features ``[B, F]``, of unit length and in fp32.

        Args:
            images: Images normalised by ``preprocessing``; ignored if ``features`` are given.
            features: ``[B, F]`` cached outputs of the image tower, if any.
            num_images: See ``tower_features``.
        """
        features = self.tower_features(images, features, num_images)
        with torch.autocast(features.device.type, enabled=False):
            return F.normalize(in_full(features), dim=-1)

    def checkpoint_gradients(self) -> None:
        """See ``Model.checkpoint_gradients``; a frozen tower keeps no activations in any case."""
        if not self.image_encoder.frozen:
            self.image_encoder.checkpoint_gradients()

    def after_step(self) -> None:
        """See ``Head.after_step``."""
        if isinstance(self.head, Head):
            self.head.after_step()

    def describe(self) -> list[str]:
        """Lines for the log: tower, head, loss, and numbers of trained parameters."""
        sizes = f"{self.image_encoder.num_features} features to {self.num_classes} classes, {describe_parameters(self.head)}"
        return [
            f"image encoder {self.image_encoder.describe()}",
            f"head {type(self.head).__name__}: {sizes}{self._start}",
            f"loss {self.loss.describe()}",
            *super().describe(),
        ]


def check_num_classes(where: str, num_classes: int) -> None:
    """Refuse fewer than two classes.

    Raises:
        ConfigError: The number is below 2.
    """
    if num_classes < 2:
        raise ConfigError(f"{where}: num_classes={num_classes}, but a classifier requires at least 2 classes")


def _connected(loss: nn.Module, num_classes: int) -> LogitLoss:
    """``loss``, prepared for the class weights of ``num_classes`` classes.

    Raises:
        BuildError: The loss compares images with captions.
    """
    if not isinstance(loss, LogitLoss):
        raise BuildError(
            f"ImageClassifier: {type(loss).__name__} compares images with captions, but a classifier has logits. "
            "Choose CrossEntropyLoss, FocalLoss or (for findings) BinaryCrossEntropyLoss, or the model CLIP"
        )
    return loss.connect(num_classes)


def _check_start(image: nn.Module, text: nn.Module, head: nn.Module) -> None:
    """Refuse to start a head from texts that are unrelated to the image tower's features.

    Raises:
        BuildError: The head cannot start from these texts; the message gives the fix.
    """
    refusal = head.refuses_start() if isinstance(head, Head) else f"{type(head).__name__} is not a Head"
    if refusal:
        raise BuildError(f"ImageClassifier: text_encoder: {refusal}; or remove text_encoder")
    problem = ""
    if not (image.projected and text.projected):
        without = " and ".join(tower.name for tower in (image, text) if not tower.projected)
        problem = f"features of {without} are not in a joint space"
    elif image.space is None or image.space != text.space:
        problem = f"the towers' weights do not come from one model (image: {image.weights}; text: {text.weights})"
    elif image.num_features != text.num_features:
        problem = f"the image tower's features are {image.num_features} wide, the text tower's {text.num_features}"
    elif None not in (image.quick_gelu, text.quick_gelu) and image.quick_gelu != text.quick_gelu:
        problem = f"image_encoder.quick_gelu={image.quick_gelu}, text_encoder.quick_gelu={text.quick_gelu}, but both come from one model"
    if problem:
        raise BuildError(
            f"ImageClassifier: text_encoder: {problem}, so the head cannot start from class captions. "
            "Use both towers of one published CLIP, such as clip:ViT-B/32, or remove text_encoder"
        )


def _log_scale(*towers: nn.Module) -> float:
    """Log of 1 / temperature that the towers were trained with; CLIP's initial 0.07 if undefined."""
    return next((tower.logit_scale for tower in towers if tower.logit_scale is not None), -math.log(0.07))


@torch.no_grad()
def _text_features(tower: nn.Module, tokens: Tokens, device: torch.device) -> Tensor:
    """``[S, F]`` text features of captions, in full precision."""
    tower.eval()
    with torch.autocast(device.type, enabled=False):
        return tokens.encoded(tower, device).float()
