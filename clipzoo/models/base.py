"""Base class of all models."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor, nn

from clipzoo.errors import BuildError
from clipzoo.models.modules import describe_parameters
from clipzoo.models.pooling import mean_per_case
from clipzoo.structures import Batch, ClassCaptions, Preprocessing, Tokenizer, Tokens

if TYPE_CHECKING:
    from clipzoo.models.text_encoders.base import TextEncoder
    from clipzoo.models.tower import Tower


class Model(nn.Module):
    """Base class of all models, and all that the engine knows about a model.

    Attributes:
        preprocessing: Input format of the image tower.
        tokenizer: Tokenizer of the text tower; ``None`` for a model without one.
        calibration: Temperature fitted on the val part; the logits of the trained classes are divided by it after ``predict``. Set from the
            checkpoint, and not part of the state dict; 1 without.
        takes_features: Whether the model has an ``image_encoder`` and supports ``Batch.features``; see ``tower_features``.
        takes_mixed: Whether the loss of mixed images is that of ``Batch.mixed_loss``, as ``MixUp`` and ``CutMix`` require.
        takes_views: Whether the model supports ``Batch.num_images``, several images per case; see ``tower_features``.

    ``encode_image``, ``encode_captions``, ``encode`` and ``contrast`` are optional; ``lacks`` says which of them a model does not have.

    A constructor argument ``num_classes`` is filled in with the dataset's number of classes and must not be in a config.
    """

    preprocessing: Preprocessing
    tokenizer: Tokenizer | None = None
    calibration: float = 1.0
    takes_features: ClassVar[bool] = False
    takes_mixed: ClassVar[bool] = False
    takes_views: ClassVar[bool] = False

    @property
    def captions(self) -> Literal["batch", "all", "none"]:
        """Which captions a training batch must contain: those drawn for its cases, all captions of the dataset, or none."""
        return "batch"

    def forward(self, batch: Batch, feature_gradients: tuple[Tensor, ...] | None = None) -> dict[str, Tensor]:
        """Named losses of a batch, each a differentiable scalar; the training loss is their sum.

        Entries whose names start with ``in_batch_`` are measures of the batch, which are reported but not part of the loss.

        Args:
            batch: Cases and captions.
            feature_gradients: For ``train.grad_cache`` and models with ``encode`` and ``contrast`` only: the gradient of the loss with
                respect to each feature returned by ``encode``. The result is then the sum of their products.
        """
        raise NotImplementedError(f"{type(self).__name__} has no method 'forward'")

    def encode_image(self, images: Tensor | None, features: Tensor | None = None, num_images: Tensor | None = None) -> Tensor:
        """Optional: ``[B, D]`` features of images, of length 1; arguments as for ``tower_features``, if the model accepts them."""
        raise NotImplementedError(f"{type(self).__name__} has no method 'encode_image'")

    def encode_captions(self, tokens: Tokens, ids: Tensor | None = None) -> Tensor:
        """Optional: ``[N, D]`` features of captions, of length 1, in the space of ``encode_image``.

        Args:
            tokens: A table of captions.
            ids: ``[N]`` int64 rows of it; ``None`` for all.
        """
        raise NotImplementedError(f"{type(self).__name__} has no method 'encode_captions'")

    def encode(self, batch: Batch) -> tuple[Tensor, ...]:
        """Optional, for ``train.grad_cache``: the features of a batch that the loss compares."""
        raise NotImplementedError(f"{type(self).__name__} has no method 'encode'")

    def contrast(self, *features: object) -> dict[str, Tensor]:
        """Optional, for ``train.grad_cache``: the named losses of what ``encode`` returned for several batches."""
        raise NotImplementedError(f"{type(self).__name__} has no method 'contrast'")

    def lacks(self, *methods: str) -> list[str]:
        """Those of the optional methods that this model does not have."""
        return [name for name in methods if getattr(type(self), name) is getattr(Model, name)]

    @property
    def image_tower(self) -> Tower | None:
        """The module ``image_encoder``; ``None`` for a model without one."""
        return self._modules.get("image_encoder")

    @property
    def text_tower(self) -> TextEncoder | None:
        """The module ``text_encoder``; ``None`` for a model without one."""
        return self._modules.get("text_encoder")

    @property
    def criterion(self) -> nn.Module | None:
        """The module ``loss``; ``None`` for a model that computes its loss by itself."""
        return self._modules.get("loss")

    @property
    def multi_label(self) -> bool:
        """Whether every logit of ``predict`` answers a question of its own (findings): its probability is a sigmoid, not a softmax."""
        return getattr(self.criterion, "multi_label", False)

    @property
    def log_temperature(self) -> Tensor | None:
        """Scalar: the negative of the parameter or buffer ``logit_scale``, by whose exponential similarities are multiplied."""
        scale = getattr(self, "logit_scale", None)
        return None if scale is None else -scale.detach()

    def predict(self, batch: Batch, classes: object | None = None) -> Tensor:
        """``[B, C]`` fp32 logits, with the temperature applied.

        Args:
            batch: Batch, of which only its images, or their features, are used.
            classes: Result of ``encode_classes``.
        """
        raise NotImplementedError(f"{type(self).__name__} has no method 'predict'")

    def encode_classes(self, captions: ClassCaptions) -> object | None:
        """The representation of the classes for ``predict``, computed once per evaluation, not per batch. ``None`` if none is needed."""
        return None

    def initialise(self, classes: ClassCaptions | None, class_counts: Tensor) -> None:
        """Initialise the model from the data; called once per new run, on its device, before ``prepare`` and the optimizer.

        Not called when weights come from a checkpoint, so everything set here must be part of the checkpoint.

        Args:
            classes: Captions that represent the classes; ``None`` if the model has no tokenizer, or the data no classes.
            class_counts: ``[C]`` int64 cases per class in this fold's training part; of findings ``[2, C]``: known absent, and present.
        """

    def prepare(self, captions: Tokens) -> None:
        """Compute what stays constant during the run; called once before training with the whole caption table, on the CPU.

        Never called when a trained model is used: only this method and ``initialise`` may change a model's state.
        """

    def tower_features(self, images: Tensor | None, features: Tensor | None = None, num_images: Tensor | None = None) -> Tensor:
        """``[B, num_features]`` outputs of ``image_encoder``, computed or cached, for models that have one: the mean over a case's images.

        A frozen tower, and any tower outside training, averages over the test views of every image too. Outside training a frozen tower
        always runs in full precision, also under autocast, as it did for the cached features, so that every evaluation gets the same
        numbers.

        Args:
            images: ``[B, 3, H, W]``, or ``[I, 3, H, W]`` with ``num_images``; ignored if ``features`` are given.
            features: ``[B, num_features]`` cached features, if any.
            num_images: ``[B]`` int64 number of images of each case; ``None`` for one each.
        """
        if features is not None:
            return features
        tower = self.image_encoder
        with torch.autocast(images.device.type, enabled=False) if tower.frozen and not self.training else nullcontext():
            found = tower(images) if self.training and not tower.frozen else tower.averaged(images)
            return found if num_images is None else mean_per_case(found, num_images)

    def checkpoint_gradients(self) -> None:
        """Keep only the activations between blocks from now on, and recompute the others in the backward pass.

        Raises:
            BuildError: The model does not support it.
        """
        raise BuildError(f"train.gradient_checkpointing: {type(self).__name__} does not support gradient checkpointing. Remove this option")

    def after_step(self) -> None:
        """Clamp parameters to their valid range in place; called after every optimizer step."""

    def describe(self) -> list[str]:
        """Lines for the log: the towers, the origin of their weights, and the numbers of trained parameters."""
        return [f"model {type(self).__name__}: {describe_parameters(self)}"]
