"""Two processes with half a batch each train exactly as one process with the whole batch.

This file is also the program that the processes run.
"""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from clipzoo.models.losses import CaptionCrossEntropyLoss, ContrastiveLoss, MultiPositiveContrastiveLoss, SigmoidContrastiveLoss
from clipzoo.models.losses.gather import gather
from clipzoo.structures import Batch

WORLD = 2
# Captions drawn by four cases of each process: 2 distinct ones in the first, 4 in the second, two of them in both.
DRAWN = [[5, 5, 3, 5], [3, 1, 5, 4]]
CLASS_OF_CAPTION = {0: 0, 1: 0, 2: 1, 3: 1, 4: 2, 5: 2}
LOSSES = {
    "standard": ContrastiveLoss,
    "multi_positive": MultiPositiveContrastiveLoss,
    "sigmoid": lambda: SigmoidContrastiveLoss(3.0),
    "cross_entropy": lambda: CaptionCrossEntropyLoss(0.1),
}


class SmallCLIP(nn.Module):
    """Two small towers, a logit scale and a loss: what a CLIP model hands to its loss."""

    def __init__(self, loss: nn.Module):
        super().__init__()
        self.image = nn.Sequential(nn.Linear(7, 8), nn.Tanh(), nn.Linear(8, 6))
        self.text = nn.Sequential(nn.Embedding(6, 8), nn.Tanh(), nn.Linear(8, 6))
        self.logit_scale = nn.Parameter(torch.tensor(2.0))
        self.loss = loss

    def forward(self, batch: Batch) -> torch.Tensor:
        image, text = F.normalize(self.image(batch.images), dim=-1), F.normalize(self.text(batch.caption_ids), dim=-1)
        return self.loss(image, text, self.logit_scale.exp(), batch)


def make_model(name: str) -> SmallCLIP:
    torch.manual_seed(0)
    return SmallCLIP(LOSSES[name]()).double()


def make_batch(name: str, rank: int | None) -> Batch:
    """The cases of one process, or of all of them for ``rank=None``."""
    drawn = [i for part in DRAWN for i in part]
    images = torch.randn(len(drawn), 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    if rank is not None:
        rows = slice(rank * len(DRAWN[0]), (rank + 1) * len(DRAWN[0]))
        drawn, images = drawn[rows], images[rows]
    labels = [CLASS_OF_CAPTION[i] for i in drawn]
    if name == "cross_entropy" and rank != 0:
        labels[-1] = -1  # the processes hold different numbers of labelled cases
    everything = name == "cross_entropy"
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
    )


def run_process(rank: int, folder: Path) -> None:
    """One process: a step of every loss under DistributedDataParallel; saves losses and gradients."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=(folder / "meet").as_uri(), rank=rank, world_size=WORLD)
    results = {}
    for name in LOSSES:
        model = make_model(name)
        wrapped = nn.parallel.DistributedDataParallel(model)  # kept until backward: its reducer averages the gradients
        loss = wrapped(make_batch(name, rank))
        loss.backward()
        results[name] = {"loss": loss.detach(), **{key: p.grad for key, p in model.named_parameters()}}
    torch.save(results, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    processes = [
        subprocess.Popen([sys.executable, __file__, str(rank), str(folder)], stderr=subprocess.PIPE, text=True) for rank in range(WORLD)
    ]
    for process in processes:
        try:
            _, errors = process.communicate(timeout=120)
        finally:
            process.kill()
        assert process.returncode == 0, errors
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(WORLD)]


@pytest.mark.parametrize("name", LOSSES)
def test_two_processes_equal_one_with_the_whole_batch(results, name):
    model = make_model(name)
    loss = model(make_batch(name, None))
    loss.backward()
    mean_loss = sum(result[name]["loss"] for result in results) / WORLD
    torch.testing.assert_close(mean_loss, loss.detach(), rtol=1e-10, atol=0)
    expected = {key: p.grad for key, p in model.named_parameters()}
    assert ("loss.logit_bias" in expected) == (name == "sigmoid") and expected["logit_scale"].abs() > 1e-3
    for result in results:
        assert result[name].keys() - {"loss"} == expected.keys()
        for key, gradient in expected.items():
            torch.testing.assert_close(result[name][key], gradient, rtol=1e-9, atol=1e-12, msg=lambda m, key=key: f"{key}: {m}")


def test_half_a_batch_alone_has_another_gradient():
    """The comparison above can fail: without the gathering the gradient differs."""
    for name in ("standard", "multi_positive", "sigmoid"):
        whole, halves = make_model(name), make_model(name)
        whole(make_batch(name, None)).backward()
        sum(halves(make_batch(name, rank)) / WORLD for rank in range(WORLD)).backward()
        assert (whole.logit_scale.grad - halves.logit_scale.grad).abs() > 1e-3


def test_one_process_gathers_nothing():
    batch = make_batch("standard", 0)
    image, text = torch.randn(4, 6), torch.randn(2, 6)
    pairs = gather(image, text, batch)
    assert pairs.image_BD is image and pairs.text_UD is text and pairs.distinct_U is None
    assert pairs.positives_BU.tolist() == batch.positives().tolist()


if __name__ == "__main__":
    run_process(int(sys.argv[1]), Path(sys.argv[2]))
