"""Batches on their way from a worker: what arrives is what was sent, whichever way it goes."""

import copy
import gc
import os
import pickle
import random
import weakref
from multiprocessing.reduction import ForkingPickler
from types import SimpleNamespace

import pytest
import torch
from torchvision import tv_tensors

from clipzoo.datasets.batches import parcels
from clipzoo.datasets.batches.parcels import NO_SHARED_MEMORY, Parcel
from clipzoo.structures import Batch, Tokens


def sent(batch, notes=()):
    """What arrives, through a pickle as in a queue, and what the parcel was made of."""
    parcel = pickle.loads(bytes(ForkingPickler.dumps(Parcel(batch, list(notes)).pack())))
    made_of = SimpleNamespace(tensors=parcel.tensors, blocks=parcel.blocks, notes=parcel.notes)
    return parcel.opened(), made_of


def same(one, other):
    """Equal to the last bit, in type, shape, and order in memory."""
    assert type(one) is type(other) and one.dtype is other.dtype and one.shape == other.shape
    first, second = (tensor.resolve_conj().contiguous().reshape(-1).view(torch.uint8) for tensor in (one, other))
    assert torch.equal(first, second)
    if torch.empty_like(one).stride() == one.stride():
        assert one.stride() == other.stride()


TENSORS = {
    "floats": lambda: torch.randn(3, 4),
    "nan": lambda: torch.tensor([float("nan"), -0.0]),
    "half": lambda: torch.randn(5).bfloat16(),
    "bools": lambda: torch.rand(7) > 0.5,
    "scalar": lambda: torch.tensor(2.5, dtype=torch.float64),
    "complex": lambda: torch.randn(3, dtype=torch.complex64),
    "conjugate": lambda: torch.randn(30, dtype=torch.complex64).conj(),
    "empty": lambda: torch.empty(4, 0, 3),
    "channels last": lambda: torch.randn(2, 3, 5, 4).to(memory_format=torch.channels_last),
    "transposed": lambda: torch.randn(3, 6).T,
    "with gaps": lambda: torch.randn(6, 8)[::2, 1::3],
    "repeated": lambda: torch.randn(1, 4).expand(3, 4),
    "part of a large one": lambda: torch.arange(10**6)[70:80],
}


@pytest.mark.parametrize("large", [0, 100, 2**18])
@pytest.mark.parametrize("kind", TENSORS)
def test_a_tensor_arrives_as_it_was(kind, large, monkeypatch):
    monkeypatch.setattr(parcels, "LARGE", large)
    tensor = TENSORS[kind]()
    found, parcel = sent([tensor, "text", tensor])
    same(tensor, found[0])
    assert found[0] is found[2] and found[1] == "text" and len(parcel.tensors) == 1
    assert found[0].untyped_storage().nbytes() <= tensor.nbytes + 64
    found[0].zero_()  # writable


def test_batches_of_any_structure_arrive_as_they_were(monkeypatch):
    rng = random.Random(0)
    monkeypatch.setattr(parcels, "LARGE", 200)

    def structure(depth):
        kind = rng.randrange(7 if depth else 3)
        if kind < 2:
            return rng.choice(list(TENSORS.values()))()
        if kind == 2:
            return rng.choice([None, "文字", 3, ValueError("x")])
        parts = [structure(depth - 1) for _ in range(rng.randrange(4))]
        if kind == 3:
            return SimpleNamespace(parts=parts)
        return parts if kind == 4 else tuple(parts) if kind == 5 else dict(enumerate(parts))

    def compare(one, other):
        assert type(one) is type(other)
        if isinstance(one, torch.Tensor):
            same(one, other)
        elif isinstance(one, (list, tuple)):
            assert len(one) == len(other)
            for pair in zip(one, other, strict=True):
                compare(*pair)
        elif isinstance(one, dict):
            compare(list(one.items()), list(other.items()))
        else:
            assert (
                repr(one) == repr(other) if isinstance(one, (ValueError, str, int, type(None))) else compare(one.parts, other.parts) is None
            )

    for _ in range(100):
        made = structure(3)
        compare(copy.deepcopy(made), sent(made)[0])


def test_what_is_no_plain_tensor_arrives_too():
    image = tv_tensors.Image(torch.zeros(3, 2, 2))
    learnt = torch.nn.Parameter(torch.ones(2))
    found, _ = sent({"image": image, "learnt": learnt})
    assert type(found["image"]) is tv_tensors.Image and found["learnt"].requires_grad
    assert torch.equal(found["image"], image) and torch.equal(found["learnt"], learnt)


def test_only_large_tensors_use_shared_memory_and_small_ones_do_not_keep_them():
    tokens = Tokens(torch.zeros(2, 3), torch.ones(2))
    batch = Batch(torch.rand(2, 3, 224, 224), torch.arange(2), torch.zeros(2), text=tokens)
    found, parcel = sent(batch)
    assert [isinstance(one, torch.Tensor) for one in parcel.tensors] == [True, False, False, False, False]
    assert found.images.is_shared() and not found.labels.is_shared() and len(parcel.blocks[0]) == 4 * 64 and len(parcel.blocks) == 1
    assert torch.equal(found.images, batch.images) and torch.equal(found.labels, batch.labels) and torch.equal(found.text.ids, tokens.ids)


@pytest.mark.parametrize("size", [32, 224])
def test_who_keeps_a_small_tensor_does_not_keep_the_images(size, monkeypatch):
    """An evaluation keeps the cases and labels of all batches."""
    monkeypatch.setattr(parcels, "has_room", lambda size: False)
    batch = Batch(torch.rand(16, 3, size, size), torch.arange(16), torch.arange(16))
    found, parcel = sent(batch)
    assert found.cases.untyped_storage().nbytes() == found.labels.untyped_storage().nbytes() == 2 * 128
    assert torch.equal(found.images, batch.images) and (NO_SHARED_MEMORY in parcel.notes) == (size == 224)


@pytest.mark.parametrize("side", ["sender", "receiver"])
def test_a_batch_is_freed_when_its_last_user_lets_go_of_it(side):
    gc.collect()
    gc.disable()
    try:
        images = torch.rand(2, 3, 224, 224)
        parcel = Parcel({"images": images, "labels": torch.arange(3)}, []).pack()
        if side == "receiver":
            parcel = pickle.loads(bytes(ForkingPickler.dumps(parcel)))
            images = parcel.opened()["images"]
        seen = weakref.ref(images)
        del images, parcel
        assert seen() is None
    finally:
        gc.enable()


def test_a_parcel_is_pinned_in_few_pieces(monkeypatch):
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(tensor.nbytes) or tensor.clone())
    batch = {"large": torch.rand(2**17), "small": torch.arange(3), "smaller": torch.tensor(1.0)}
    parcel = pickle.loads(bytes(ForkingPickler.dumps(Parcel(batch, []).pack())))
    assert parcel.pin_memory() is parcel and pinned == [128, 2**19]
    found = parcel.opened()
    assert all(torch.equal(found[name], batch[name]) for name in batch) and parcel.opened() is found
    pinned.clear()
    assert torch.equal(Parcel(batch, []).pin_memory().opened()["small"], torch.arange(3)) and len(pinned) == 3, "in the training process"


@pytest.mark.parametrize(
    ("total", "free", "size", "expected"), [(64, 64, 47, True), (64, 64, 49, False), (9999, 300, 40, True), (9999, 300, 50, False)]
)
def test_how_much_of_shared_memory_is_left_free(monkeypatch, total, free, size, expected):
    found = os.statvfs_result((2**20, 2**20, total, free, free, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda path: found)
    assert parcels.has_room(size * 2**20) is expected


def test_a_system_without_dev_shm_keeps_shared_memory_elsewhere(monkeypatch):
    def missing(path):
        raise FileNotFoundError(path)

    monkeypatch.setattr(os, "statvfs", missing)
    assert parcels.has_room(2**40)
