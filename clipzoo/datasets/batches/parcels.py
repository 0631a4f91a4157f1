"""How a batch gets from the worker process that made it to the training process.

Torch sends every tensor as a file, for which the receiver connects to the worker: 0.4 ms each, and a batch of captions has nine. Here small
tensors travel as one block of bytes through the queue, and large ones in shared memory; if that is full, through the queue. Torch would
notice a full shared memory only in a thread of the worker whose errors are lost, and the batch would be waited for forever.

Nothing here is part of a reference cycle: a batch is freed when its last user lets go of it.
"""

from __future__ import annotations

import io
import os
import pickle
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data._utils.pin_memory import pin_memory

LARGE = 2**18  # bytes of a tensor for which shared memory is faster than the queue
_SMALL = 2**12  # bytes of a tensor that shares a block: whoever keeps it keeps the block
_ALIGNED = 64  # bytes
_RESERVE = 2**28  # bytes of shared memory kept free

NO_SHARED_MEMORY = (
    "note: /dev/shm has no room for the batches of the worker processes, so pipes are used, which are slower. "
    "In Docker, start the container with --shm-size=8g or --ipc=host"
)


class _Place(NamedTuple):
    """Where a tensor lies in a parcel: number of the block, first byte, type, shape, and strides in elements."""

    block: int
    first: int
    dtype: torch.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def view(self, blocks: list[torch.Tensor]) -> torch.Tensor:
        """The tensor in its block, which it shares."""
        elements = 1 + sum((side - 1) * stride for side, stride in zip(self.shape, self.strides, strict=True))
        size = elements * self.dtype.itemsize if 0 not in self.shape else 0
        return blocks[self.block][self.first : self.first + size].view(self.dtype).as_strided(self.shape, self.strides)


class Parcel:
    """A batch on its way, with lines for the user.

    Args:
        batch: Any picklable object, with tensors anywhere in it.
        notes: Lines from the process that made it.
    """

    def __init__(self, batch: object, notes: list[str]):
        self.batch, self.notes = batch, notes
        self.skeleton: bytes | None = None  # the batch without its tensors, if it is packed
        self.tensors: list[torch.Tensor | _Place] = []
        self.blocks: list[bytes | torch.Tensor] = []  # all small tensors, then each larger one that is not in shared memory

    def pack(self) -> Parcel:
        """The same, ready to be sent; for the process that made the batch."""
        stream = io.BytesIO()
        pickler = _Pickler(stream)
        pickler.dump(self.batch)
        found = [tensor.resolve_conj().resolve_neg() for tensor in pickler.found]
        self.skeleton, self.batch = stream.getvalue(), None
        large = {number: tensor for number, tensor in enumerate(found) if tensor.nbytes >= LARGE}
        shared = _shared(large)
        if len(shared) < len(large):
            self.notes = [*self.notes, NO_SHARED_MEMORY]
        sizes, copies = [0], []
        for number, tensor in enumerate(found):
            if number in shared:
                self.tensors.append(shared[number])
                continue
            block = 0
            if tensor.nbytes > _SMALL:
                block = len(sizes)
                sizes.append(0)
            strides = torch.empty_like(tensor, device="meta").stride()  # kept where no memory lies between the values
            place = _Place(block, sizes[block], tensor.dtype, tuple(tensor.shape), strides)
            sizes[block] += -(-tensor.nbytes // _ALIGNED) * _ALIGNED
            self.tensors.append(place)
            copies.append((place, tensor))
        blocks = [torch.empty(size, dtype=torch.uint8) for size in sizes]
        for place, tensor in copies:
            place.view(blocks).copy_(tensor)
        self.blocks = [block.numpy().tobytes() for block in blocks]
        return self

    def opened(self) -> Any:
        """The batch."""
        if self.skeleton is not None:
            blocks = [_writable(block) for block in self.blocks]
            tensors = [one.view(blocks) if isinstance(one, _Place) else one for one in self.tensors]
            self.batch, self.skeleton = _Unpickler(self.skeleton, tensors).load(), None
            self.tensors, self.blocks = [], []
        return self.batch

    def pin_memory(self) -> Parcel:
        """The same parcel in page-locked memory; the DataLoader calls this."""
        if self.skeleton is None:
            self.batch = pin_memory(self.batch)
        else:
            self.blocks = [_writable(block).pin_memory() for block in self.blocks]
            self.tensors = [one if isinstance(one, _Place) else one.pin_memory() for one in self.tensors]
        return self


def _writable(block: bytes | torch.Tensor) -> torch.Tensor:
    """The bytes in memory that is aligned and may be written to."""
    if isinstance(block, torch.Tensor):
        return block
    copy = torch.empty(len(block), dtype=torch.uint8)
    copy.numpy()[:] = np.frombuffer(block, np.uint8)
    return copy


class _Pickler(pickle.Pickler):
    """Pickles a batch without its tensors, which it finds.

    Attributes:
        found: The tensors.
    """

    def __init__(self, stream: io.BytesIO):
        super().__init__(stream, pickle.HIGHEST_PROTOCOL)
        self.found: list[torch.Tensor] = []
        self.numbers: dict[int, int] = {}

    def persistent_id(self, value: object) -> int | None:
        """The number of a tensor."""
        if type(value) is not torch.Tensor or value.requires_grad or value.layout is not torch.strided or value.device.type != "cpu":
            return None
        if id(value) not in self.numbers:
            self.numbers[id(value)] = len(self.found)
            self.found.append(value)
        return self.numbers[id(value)]


class _Unpickler(pickle.Unpickler):
    def __init__(self, skeleton: bytes, tensors: list[torch.Tensor]):
        super().__init__(io.BytesIO(skeleton))
        self.tensors = tensors

    def persistent_load(self, number: int) -> torch.Tensor:
        return self.tensors[number]


def _shared(tensors: dict[int, torch.Tensor]) -> dict[int, torch.Tensor]:
    """The tensors in shared memory; none of them if it has no room for all."""
    if not tensors or not has_room(sum(tensor.nbytes for tensor in tensors.values())):
        return {}
    whole = {number: one if one.untyped_storage().nbytes() == one.nbytes else one.clone() for number, one in tensors.items()}
    try:
        return {number: tensor.share_memory_() for number, tensor in whole.items()}
    except RuntimeError:  # another process was faster
        return {}


def has_room(size: int) -> bool:
    """Does ``/dev/shm`` have room for ``size`` more bytes, besides the reserve for other libraries and later workers' semaphores?"""
    try:
        found = os.statvfs("/dev/shm")
    except (AttributeError, OSError):  # other systems keep shared memory elsewhere
        return True
    return found.f_bavail * found.f_frsize - size >= min(found.f_blocks * found.f_frsize // 4, _RESERVE)
