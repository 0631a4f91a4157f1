"""Mixing of the images of a batch: MixUp and CutMix, members of ``data.augmentation`` that work on whole batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from annotated_types import Interval

from clipzoo.config.arguments import Positive
from clipzoo.datasets.augmentations.images import Augmentation
from clipzoo.datasets.transforms import Transform
from clipzoo.registries import AUGMENTATIONS

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from clipzoo.structures import Batch, Preprocessing

Probability = Annotated[float, Interval(ge=0, le=1)]


class Mixing(Augmentation):
    """Base class; subclasses implement ``mix``.

    Every image is mixed with that of another case of its batch, its partner, in one proportion for the batch. The loss is mixed in the same
    proportion: that of the batch as it is, and that with each case's label and captions replaced by its partner's. As losses are linear in
    their targets, this is the loss with mixed targets, and every caption of either case is a positive.

    Args:
        alpha: Both parameters of the Beta distribution of the proportion. Small values leave most images almost unmixed.
        probability: Share of the batches that are mixed.
    """

    def __init__(self, alpha: Positive, probability: Probability = 1.0):
        self.alpha = alpha
        self.probability = probability

    def steps(self, preprocessing: Preprocessing) -> tuple[list[Transform], list[Transform]]:
        """None: single images stay as they are."""
        return [], []

    def mix(self, images_BCHW: Tensor, partners_BCHW: Tensor, share: float, generator: Generator) -> tuple[Tensor, float]:
        """The mixed images, and the share that they keep of their own.

        Args:
            images_BCHW: ``[B, C, H, W]`` normalised images.
            partners_BCHW: ``[B, C, H, W]`` image of each case's partner.
            share: Wanted share in [0, 1] of the own image.
            generator: Source of further random numbers, on the CPU.
        """
        raise NotImplementedError(f"{type(self).__name__} has no method 'mix'")


@AUGMENTATIONS.register_module()
class MixUp(Mixing):
    """Weighted means of two images.

    Args:
        alpha: See ``Mixing``; the paper uses 0.1 to 0.4 for ImageNet.
        probability: See ``Mixing``.

    Source: Zhang et al. 2018 (arXiv:1710.09412), Eq. 1 and 2.
    """

    def __init__(self, alpha: Positive = 0.2, probability: Probability = 1.0):
        super().__init__(alpha, probability)

    def mix(self, images_BCHW: Tensor, partners_BCHW: Tensor, share: float, generator: Generator) -> tuple[Tensor, float]:
        """See ``Mixing.mix``."""
        return share * images_BCHW + (1 - share) * partners_BCHW, share


@AUGMENTATIONS.register_module()
class CutMix(Mixing):
    """A rectangle of the image is replaced by that of its partner. Its centre is uniform, and its sides are cut at the image's border.

    Args:
        alpha: See ``Mixing``; with 1, as in the paper, the proportion is uniform.
        probability: See ``Mixing``.

    Source: Yun et al. 2019 (arXiv:1905.04899), Eq. 1 and 2; the share is that of the pixels that were kept.
    """

    def __init__(self, alpha: Positive = 1.0, probability: Probability = 1.0):
        super().__init__(alpha, probability)

    def mix(self, images_BCHW: Tensor, partners_BCHW: Tensor, share: float, generator: Generator) -> tuple[Tensor, float]:
        """See ``Mixing.mix``."""
        import torch

        height, width = images_BCHW.shape[-2:]
        side = (1 - share) ** 0.5
        rows, columns = (
            slice(max(0, round((centre - side / 2) * size)), min(size, round((centre + side / 2) * size)))
            for centre, size in zip(torch.rand(2, generator=generator).tolist(), (height, width), strict=True)
        )
        mixed = images_BCHW.clone(memory_format=torch.preserve_format)
        mixed[..., rows, columns] = partners_BCHW[..., rows, columns]
        return mixed, 1 - (rows.stop - rows.start) * (columns.stop - columns.start) / (height * width)


def mixings_of(spec: str | Mapping | Sequence) -> list[Mixing]:
    """The members of ``data.augmentation`` that mix the images of a batch."""
    specs = [spec] if isinstance(spec, (str, Mapping)) else spec
    made = [AUGMENTATIONS.build(one) for one in specs]
    return [one for one in made if isinstance(one, Mixing)]


def mixed(batch: Batch, mixings: Sequence[Mixing], seed: int) -> Batch:
    """``batch`` with mixed images, and each case's partner; unchanged without ``mixings``, or if the draw says so.

    Args:
        batch: Training batch with images.
        mixings: One of them is drawn.
        seed: Seed of all draws. The proportion does not depend on the size of the batch, so processes with one seed agree on it.
    """
    if not mixings:
        return batch
    import torch

    generator = torch.Generator().manual_seed(seed)
    chosen = mixings[int(torch.randint(len(mixings), (), generator=generator))]
    if float(torch.rand((), generator=generator)) >= chosen.probability:
        return batch
    a, b = (torch._standard_gamma(torch.tensor(chosen.alpha, dtype=torch.float64), generator=generator) for _ in range(2))
    share = float(a / (a + b)) if float(a + b) > 0 else 1.0  # gammas of a tiny alpha may both underflow
    box = torch.Generator().manual_seed(int(torch.randint(2**31, (), generator=generator)))
    partner_B = torch.randperm(len(batch), generator=generator).to(batch.labels.device)
    images, share = chosen.mix(batch.images, batch.images[partner_B], share, box)
    return replace(batch, images=images, partner=partner_B, share=torch.tensor(share, dtype=torch.float32, device=batch.labels.device))
