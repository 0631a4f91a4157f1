"""What is explained: the similarity to a sentence, the logit of a class, or the difference between two of them.

Shapes: B images of a batch · N images in all · F outputs of the image tower · D width of the joint space · C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from clipzoo.errors import BuildError, DataError, did_you_mean, shortened
from clipzoo.inference.classifier import LoadedClassifier
from clipzoo.inference.clip import LoadedCLIP
from clipzoo.inference.model import features_only

Member = LoadedCLIP | LoadedClassifier
RowScore = Callable[[Tensor, list[int]], Tensor]  # [B, F] and the rows of the B images among the N, to [B]


class Target(Protocol):
    """One number per image.

    Attributes:
        names: What is explained for each image: its sentence or class.
        against: What is subtracted; empty for nothing.
    """

    names: tuple[str, ...]
    against: tuple[str, ...]

    def score(self, model: Member) -> RowScore:
        """The function that computes this number from the outputs of the model's image tower."""


@dataclass(frozen=True)
class Sentences:
    """The cosine similarity to a sentence, minus that to another one, if given; see ``Target``."""

    names: tuple[str, ...]
    against: tuple[str, ...] = ()
    allow_overlong: bool = True

    def score(self, model: Member) -> RowScore:
        """See ``Target.score``.

        Raises:
            BuildError: The model has no text side.
            DataError: A sentence is empty, or too long without ``allow_overlong``.
        """
        if not isinstance(model, LoadedCLIP):
            raise BuildError(
                f"text: {model.source} has no text side. Explain one of its {len(model.classes)} classes: {shortened(model.classes)}"
            )
        direction_ND = model.encode_text(self.names, allow_overlong=self.allow_overlong)
        if self.against:
            direction_ND = direction_ND - model.encode_text(self.against, allow_overlong=self.allow_overlong)
        direction_ND = direction_ND.to(model.device)
        return lambda features_BF, rows: (model.model.encode_image(None, features_BF) * direction_ND[rows]).sum(dim=1)


@dataclass(frozen=True)
class Classes:
    """The logit of a class that the model was trained on, minus that of another one, if given; see ``Target``."""

    names: tuple[str, ...]
    against: tuple[str, ...] = ()

    def score(self, model: Member) -> RowScore:
        """See ``Target.score``.

        Raises:
            DataError: The model has no such class.
        """
        ids, others = (torch.tensor(_rows(names, model), device=model.device) for names in (self.names, self.against))
        encoded = model.represent_classes()

        def score(features_BF: Tensor, rows: list[int]) -> Tensor:
            logits_BC = model.model.predict(features_only(features_BF), encoded)
            chosen_B = logits_BC.gather(1, ids[rows, None]).squeeze(1)
            return chosen_B - logits_BC.gather(1, others[rows, None]).squeeze(1) if self.against else chosen_B

        return score


def _rows(names: Sequence[str], model: Member) -> list[int]:
    """The rows of classes.

    Raises:
        DataError: One is unknown.
    """
    known = {name: row for row, name in enumerate(model.classes)}
    for name in names:
        if name not in known:
            raise DataError(f"class: {model.source} has no class '{name}'.{did_you_mean(name, known)} Known: {shortened(known)}")
    return [known[name] for name in names]
