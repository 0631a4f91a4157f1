"""Explain loaded models: which part of an image speaks for a sentence or a class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch.nn import functional as F

from clipzoo.datasets.batches.image_list import ImageLike, ImageReader, batches, listed, whole
from clipzoo.errors import BuildError, DataError
from clipzoo.explain.attribution import attribute, method_for, spatial_of
from clipzoo.explain.explanation import Explanation
from clipzoo.explain.target import Classes, Member, Sentences, Target
from clipzoo.inference.ensemble import FoldEnsemble

Wanted = Literal["auto", "grad_cam", "relevance"]
Loaded = Member | FoldEnsemble


@dataclass(frozen=True)
class _Options:
    """How the images go through the model; see ``explain``."""

    method: Wanted
    batch_size: int
    num_workers: int
    progress: Callable[[int], None] | None


def explain(
    model: Loaded,
    images: ImageLike | Sequence[ImageLike],
    text: str | Sequence[str],
    against: str | Sequence[str] | None = None,
    *,
    method: Wanted = "auto",
    allow_overlong: bool = True,
    batch_size: int = 16,
    num_workers: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Explanation:
    """Why an image is near a sentence, or nearer to it than to another one.

    The cosine similarity, or the difference of two, is differentiated in full precision; the model stays as it is. Every image is
    explained on its own, without test views (``evaluation.tta``) and without the other images of its case (``data.views``).

    Args:
        model: Result of ``clipzoo.load``; of an ensemble, the mean of the maps of its folds.
        images: N images: paths, Pillow images or tensors; see ``LoadedModel.encode_image``.
        text: One sentence, or one for each image.
        against: Sentence to subtract, or one for each image.
        method: ``'grad_cam'`` for towers with feature maps, ``'relevance'`` for transformers; ``'auto'`` chooses by tower.
        allow_overlong: Whether to truncate sentences longer than the text tower's context, with a warning, instead of refusing them.
        batch_size: Images per batch. Gradients take more memory than ``classify``.
        num_workers: Worker processes that read images; 0 reads in this process.
        progress: Function called with the number of images done, up to N times the number of folds.

    Raises:
        BuildError: The model has no text side, or its image tower cannot be explained.
        DataError: An image is missing or cannot be decoded, a sentence is empty, or the numbers of images and sentences differ.
    """
    items = listed(images)
    texts = _one_each(text, len(items), "text")
    target = Sentences(texts, () if against is None else _one_each(against, len(items), "against"), allow_overlong)
    return _explained(model, items, target, _Options(method, batch_size, num_workers, progress))


def explain_classes(
    model: Loaded,
    images: ImageLike | Sequence[ImageLike],
    classes: str | Sequence[str] | None = None,
    against: str | Sequence[str] | None = None,
    *,
    method: Wanted = "auto",
    batch_size: int = 16,
    num_workers: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Explanation:
    """Why an image has a class: the logit of a class that the model was trained on, or the difference of two, is explained.

    Args:
        model: See ``explain``; also a classifier without a text side.
        images: See ``explain``.
        classes: Name of a class, or one for each image. ``None``: the most probable class of each image.
        against: Class to subtract, or one for each image.
        method: See ``explain``.
        batch_size: See ``explain``.
        num_workers: See ``explain``.
        progress: See ``explain``.

    Raises:
        BuildError: The image tower cannot be explained.
        DataError: The model has no classes, or not this one; or an image is missing or cannot be decoded.
    """
    items = listed(images)
    if not model.classes:
        raise DataError(f"{model.source}: has no classes of its own. Explain a text instead")
    if classes is None:
        result = model.classify(items, batch_size=batch_size, num_workers=num_workers)
        classes = [best[0][0] for best in result.top(1)]
    target = Classes(_one_each(classes, len(items), "class"), () if against is None else _one_each(against, len(items), "against"))
    return _explained(model, items, target, _Options(method, batch_size, num_workers, progress))


def _one_each(given: str | Sequence[str], count: int, where: str) -> tuple[str, ...]:
    """One text for every image.

    Raises:
        DataError: There are more or fewer texts than images.
    """
    texts = (given,) * count if isinstance(given, str) else tuple(given)
    if len(texts) != count:
        raise DataError(f"{where}: {len(texts)} for {count} images. Pass one for all, or one for each")
    return texts


def _explained(model: Loaded, items: Sequence[object], target: Target, options: _Options) -> Explanation:
    """The mean over the folds of an ensemble, or the maps of one model."""
    members = list(model.members.values()) if isinstance(model, FoldEnsemble) else [model]
    spatials = [spatial_of(_tower(member), options.method) for member in members]
    size = members[0].preprocess.preprocessing.size
    maps, scores = np.zeros((len(items), size, size), dtype=np.float32), np.zeros(len(items), dtype=np.float32)
    done = 0
    for member, spatial in zip(members, spatials, strict=True):
        score = target.score(member)
        reader = ImageReader(items, member.preprocess)
        for batch in whole(batches(reader, options.batch_size, options.num_workers)):
            rows = batch.rows
            with member.differentiating():
                found, numbers = attribute(_tower(member), spatial, member.on_device(batch.images), lambda f, s=score, r=rows: s(f, r))
            maps[rows] += _on_square(found, size) / len(members)
            scores[rows] += numbers.cpu().numpy() / len(members)
            done += len(rows)
            if options.progress is not None:
                options.progress(done)
    return Explanation(maps, scores, target.names, target.against, method_for(spatials[0]), members[0].preprocess.preprocessing)


def _on_square(signed_BHW: torch.Tensor, size: int) -> np.ndarray:
    """``[B, size, size]``: what speaks for the score (the ReLU), enlarged to the tower's input."""
    positive = signed_BHW.float().clamp(min=0)[:, None]
    return F.interpolate(positive, size=(size, size), mode="bilinear", align_corners=False)[:, 0].cpu().numpy()


def _tower(member: Member) -> torch.nn.Module:
    """The image tower.

    Raises:
        BuildError: The model computes no score from the outputs of an image tower.
    """
    if not member.model.takes_features or member.model.image_tower is None:
        raise BuildError(
            f"explain: {member.source}: {type(member.model).__name__} cannot be explained: it computes nothing from the features of an "
            "image_encoder (takes_features)"
        )
    return member.model.image_tower
