"""Several processes with a part of the batch each train exactly as one process with the whole batch.

This file is also the program that the processes run.
"""

import importlib.util
import itertools
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from processes import in_processes, launch
from torch import nn
from torch.nn import functional as F

from clipzoo.models.losses import (
    BinaryCrossEntropyLoss,
    CaptionCrossEntropyLoss,
    ClassSigmoidLoss,
    ContrastiveLoss,
    Loss,
    MultiPositiveContrastiveLoss,
    SigmoidContrastiveLoss,
)
from clipzoo.models.losses.gather import _one_row_per_id, gather
from clipzoo.structures import Batch

# Captions drawn by the cases of each process: different numbers of distinct ones, and some of them in several processes.
DRAWN = {
    2: [[5, 5, 3, 5], [3, 1, 5, 4]],
    3: [[4, 4, 4], [2, 5, 0], [5, 4, 5]],
}
CLASS_OF_CAPTION = {0: 0, 1: 0, 2: 1, 3: 1, 4: 2, 5: 2}
PAIR_LOSSES = {"standard": ContrastiveLoss, "multi_positive": MultiPositiveContrastiveLoss, "sigmoid": partial(SigmoidContrastiveLoss, 3.0)}
OF_ALL_CAPTIONS = ("cross_entropy", "sigmoid_classes", "binary")


class BinaryLoss(Loss):
    """The loss of a classifier, whose logits are similarities to the first caption of each class."""

    def __init__(self):
        super().__init__()
        self.inner = BinaryCrossEntropyLoss([2.0, 0.5, 3.0], gamma=1.5).connect(3)
        self.inner.fit(torch.tensor([[5, 9, 20], [5, 3, 2]]))

    def compute(self, image_BD, text_UD, logit_scale, batch):
        return self.inner(logit_scale * image_BD @ text_UD[::2].T, batch.findings)


EXACT = {
    **{
        f"{name}-{local}": partial(make, local_loss=local == "local") for name, make in PAIR_LOSSES.items() for local in ("global", "local")
    },
    "cross_entropy": partial(CaptionCrossEntropyLoss, 0.1),
    "sigmoid_classes": partial(ClassSigmoidLoss, 3.0),
    "binary": BinaryLoss,
}
CUT = {
    f"{name}-{local}-cut": partial(make, local_loss=local == "local", gather_with_grad=False)
    for name, make in PAIR_LOSSES.items()
    for local in ("global", "local")
}


class OpenCLIPLoss(Loss):
    """open_clip's own loss, each repeat of a caption encoded, as it does."""

    def __init__(self, local_loss: bool = False, gather_with_grad: bool = False):
        super().__init__()
        path = Path(importlib.util.find_spec("open_clip").submodule_search_locations[0]) / "loss.py"  # the whole package loads slowly
        spec = importlib.util.spec_from_file_location("open_clip_loss", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        dist = torch.distributed
        here = {"rank": dist.get_rank(), "world_size": dist.get_world_size()} if dist.is_initialized() else {}
        self.theirs = module.ClipLoss(local_loss, gather_with_grad, **here)

    def compute(self, image_BD, text_UD, logit_scale, batch):
        return self.theirs(image_BD, text_UD[batch.caption], logit_scale)


OPEN_CLIP = {
    "open_clip-global": partial(OpenCLIPLoss, gather_with_grad=True),
    "open_clip-local": partial(OpenCLIPLoss, local_loss=True, gather_with_grad=True),
    "open_clip-global-cut": OpenCLIPLoss,
}
LOSSES = {**EXACT, **CUT, **OPEN_CLIP}


class SmallCLIP(nn.Module):
    """Two small towers, a logit scale and a loss: what a CLIP model hands to its loss."""

    def __init__(self, loss: nn.Module):
        super().__init__()
        self.image = nn.Sequential(nn.Linear(7, 8), nn.Tanh(), nn.Linear(8, 6))
        self.text = nn.Sequential(nn.Embedding(6, 8), nn.Tanh(), nn.Linear(8, 6))
        self.logit_scale = nn.Parameter(torch.tensor(2.0))
        self.loss = loss

    def encode(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        return F.normalize(self.image(batch.images), dim=-1), F.normalize(self.text(batch.caption_ids), dim=-1)

    def forward(self, batch: Batch) -> torch.Tensor:
        return self.loss(*self.encode(batch), self.logit_scale.exp(), batch)


def make_model(name: str) -> SmallCLIP:
    torch.manual_seed(0)
    return SmallCLIP(LOSSES[name]()).double()


def make_batch(name: str, world: int, rank: int | None) -> Batch:
    """The cases of one process, or of all of them for ``rank=None``."""
    drawn = [i for part in DRAWN[world] for i in part]
    images = torch.randn(len(drawn), 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    if rank is not None:
        rows = slice(rank * len(DRAWN[world][0]), (rank + 1) * len(DRAWN[world][0]))
        drawn, images = drawn[rows], images[rows]
    labels = [CLASS_OF_CAPTION[i] for i in drawn]
    if name == "cross_entropy" and rank in (None, world - 1):
        labels[-1] = -1  # the processes hold different numbers of labelled cases
    everything = name in OF_ALL_CAPTIONS
    findings = torch.randint(-1, 2, (len(drawn), 3), generator=torch.Generator().manual_seed(len(drawn))).double()
    if rank is not None:  # the rows of the whole batch; some processes know more answers than others
        findings = make_batch(name, world, None).findings[rows]
    distinct = sorted(CLASS_OF_CAPTION if everything else set(drawn))
    positive = [[c for c, label in CLASS_OF_CAPTION.items() if label == CLASS_OF_CAPTION[i]] for i in drawn]
    if rank == 1:
        positive = [ids + [-1] for ids in positive]  # padding may differ between processes, too
    return Batch(
        images=images,
        labels=torch.tensor(labels),
        cases=torch.arange(len(drawn)),
        caption=torch.tensor([distinct.index(i) for i in drawn]),
        caption_ids=torch.tensor(distinct),
        caption_labels=torch.tensor([CLASS_OF_CAPTION[i] for i in distinct]),
        positive_ids=torch.tensor(positive),
        findings=findings,
    )


def stepped(model: SmallCLIP, loss: torch.Tensor) -> dict[str, dict[str, torch.Tensor]]:
    """Loss, gradients, and the parameters after a step of AdamW."""
    loss.backward()
    gradients = {key: p.grad.clone() for key, p in model.named_parameters()}
    torch.optim.AdamW(model.parameters(), lr=1e-2).step()
    return {"loss": {"loss": loss.detach()}, "gradient": gradients, "parameter": {k: p.detach() for k, p in model.named_parameters()}}


def run_process(folder: Path, world: int, rank: int) -> None:
    """One process: a step of every loss under DistributedDataParallel; saves what ``stepped`` returns, and the shapes of the logits."""
    results = {}
    for name in LOSSES:
        model, batch = make_model(name), make_batch(name, world, rank)
        wrapped = nn.parallel.DistributedDataParallel(model)  # kept until backward: its reducer averages the gradients
        results[name] = stepped(model, wrapped(batch))
    for name in ("standard-global", "standard-local"):
        model, batch = make_model(name), make_batch(name, world, rank)
        results[name]["shapes"] = [tuple(z.shape) for z in model.loss.pairs(*model.encode(batch), batch).logits(model.logit_scale)]
    torch.save(results, folder / f"{world}-{rank}.pt")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    launch(__file__, folder)
    return {world: [torch.load(folder / f"{world}-{rank}.pt", weights_only=True) for rank in range(world)] for world in DRAWN}


def averaged(results, world: int, name: str, what: str) -> dict[str, torch.Tensor]:
    parts = [result[name][what] for result in results[world]]
    return {key: sum(part[key] for part in parts) / world for key in parts[0]}


def assert_equal(found: dict, expected: dict, what: str = "") -> None:
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-9, atol=1e-12, msg=lambda m, key=key: f"{what} {key}: {m}")


@pytest.mark.fast_cases(2)
@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("world", DRAWN)
def test_several_processes_equal_one_with_the_whole_batch(results, world, name):
    model = make_model(name)
    expected = stepped(model, model(make_batch(name, world, None)))
    gradients = expected["gradient"]
    assert ("loss.logit_bias" in gradients) == name.startswith("sigmoid") and gradients["logit_scale"].abs() > 1e-3
    assert_equal(averaged(results, world, name, "loss"), expected["loss"], "mean")
    for rank, result in enumerate(results[world]):
        for what in ("gradient", "parameter"):
            assert_equal(result[name][what], expected[what], f"process {rank}: {what}")


@pytest.mark.parametrize("world", DRAWN)
def test_a_local_loss_is_that_of_the_own_rows(results, world):
    cases = len(DRAWN[world][0])
    for rank, result in enumerate(results[world]):
        captions = world * cases  # rows of the gathered captions, padding included
        assert result["standard-global"]["shapes"] == [(world * cases, captions), (captions, world * cases)]
        own = len(set(DRAWN[world][rank]))
        assert result["standard-local"]["shapes"] == [(cases, captions), (own, world * cases)]
        assert result["standard-local"]["loss"] != result["standard-global"]["loss"]


@pytest.mark.parametrize("variant", ["global", "local", "global-cut"])
@pytest.mark.parametrize("world", DRAWN)
def test_the_standard_loss_is_that_of_open_clip(results, world, variant):
    for what in ("loss", "gradient"):
        for result in results[world]:
            assert_equal(result[f"standard-{variant}"][what], result[f"open_clip-{variant}"][what], what)


@pytest.mark.parametrize("name", PAIR_LOSSES)
@pytest.mark.parametrize("world", DRAWN)
def test_without_gradient_the_towers_get_too_little_by_the_number_of_processes(results, world, name):
    exact, found = (results[world][0][f"{name}-{variant}"]["gradient"] for variant in ("global", "global-cut"))
    after = {"logit_scale", "loss.logit_bias"}
    assert_equal(found, {key: value if key in after else value / world for key, value in exact.items()})


@pytest.mark.parametrize("world", DRAWN)
def test_without_gradient_a_local_loss_takes_other_processes_for_constants(results, world):
    """The average over processes of each one's own rows, features of cases and captions that are not its own cut off."""
    model, batch = make_model("standard-local"), make_batch("standard", world, None)
    image_ND, text_UD = model.encode(batch)
    logit_scale, size, total = model.logit_scale.exp(), len(DRAWN[world][0]), 0.0
    for rank, drawn in enumerate(DRAWN[world]):
        own = slice(rank * size, (rank + 1) * size)
        images = image_ND.detach().clone()
        images[own] = image_ND[own]
        texts = torch.stack([text if i in drawn else text.detach() for i, text in zip(batch.caption_ids.tolist(), text_UD, strict=True)])
        logits = logit_scale * images @ texts[batch.caption].T
        target = torch.arange(own.start, own.stop)
        total = total + (F.cross_entropy(logits[own], target) + F.cross_entropy(logits.T[own], target)) / (2 * world)
    expected = stepped(model, total)
    found = results[world][0]["standard-local-cut"]["gradient"]
    assert_equal(found, expected["gradient"])
    exact = results[world][0]["standard-local"]["gradient"]
    assert all((found[key] - exact[key]).norm() > 0.02 * exact[key].norm() for key in ("image.0.weight", "text.2.weight"))


@pytest.mark.parametrize("name", PAIR_LOSSES)
def test_half_a_batch_alone_has_another_gradient(name):
    """The comparisons above can fail: without the gathering the gradient differs."""
    name = f"{name}-global"
    whole, halves = make_model(name), make_model(name)
    whole(make_batch(name, 2, None)).backward()
    sum(halves(make_batch(name, 2, rank)) / 2 for rank in range(2)).backward()
    assert (whole.logit_scale.grad - halves.logit_scale.grad).abs() > 1e-3


@pytest.mark.parametrize("local_loss", [False, True])
def test_one_process_gathers_nothing(local_loss):
    batch = make_batch("standard", 2, 0)
    image, text = torch.randn(4, 6), torch.randn(2, 6)
    pairs = gather(image, text, batch, local_loss=local_loss, gather_with_grad=False)
    assert pairs.image_BD is pairs.all_image_ND is image and pairs.text_UD is pairs.all_text_VD is text
    assert pairs.distinct_V is None and pairs.first == 0 and pairs.is_whole
    assert pairs.positives().tolist() == batch.positives().tolist()
    assert pairs.positives_of_captions(pairs.positives()).tolist() == batch.positives().T.tolist()


def test_one_row_is_chosen_per_caption():
    generator = torch.Generator().manual_seed(0)
    for rows, preferred in itertools.product((1, 7, 30), (slice(0), slice(0, 3), slice(5, 20))):
        ids = torch.randint(-1, 6, (rows,), generator=generator)
        allowed = set(range(rows)[preferred])
        for row, (i, chosen) in enumerate(zip(ids.tolist(), _one_row_per_id(ids, preferred).tolist(), strict=True)):
            same = [k for k in range(rows) if ids[k] == i]
            assert chosen == next((k for k in same if k in allowed), same[0]), (ids.tolist(), preferred, row)


if __name__ == "__main__":
    for number in DRAWN:
        in_processes(number, partial(run_process, Path(sys.argv[1]), number), Path(sys.argv[1]))
