"""How a batch gets from the worker process that made it to the training process.

Torch sends every tensor as a file, for which the receiver connects to the worker: 0.4 ms each, of which a batch of captions has nine. Here
the small ones travel as one block of bytes through the queue, and only large ones in shared memory; also these through the queue when that
is full. Torch would find that out in a thread of the worker whose errors are lost, and the batch would be waited for forever.
"""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data._utils.pin_memory import pin_memory

LARGE = 2**18  # bytes of a tensor for which shared memory is faster than the queue
_ALIGNED = 64  # bytes
_RESERVE = 2**28  # bytes of shared memory kept free

NO_SHARED_MEMORY = (
    "note: /dev/shm has no room for the batches of the worker processes, so pipes are used, which are slower. "
    "In Docker, start the container with --shm-size=8g or --ipc=host"
)


class _Place(NamedTuple):
    """Where a small tensor lies in the block: first byte, type, shape, and strides in elements."""

    first: int
    dtype: torch.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def view(self, block: torch.Tensor) -> torch.Tensor:
        """The tensor in the block, which it shares."""
        elements = 1 + sum((side - 1) * stride for side, stride in zip(self.shape, self.strides, strict=True))
        size = elements * self.dtype.itemsize if 0 not in self.shape else 0
        return block[self.first : self.first + size].view(self.dtype).as_strided(self.shape, self.strides)


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
        self.block: bytes | torch.Tensor = b""

    def pack(self) -> Parcel:
        """The same, ready to be sent; for the process that made the batch."""
        found: list[torch.Tensor] = []
        self.skeleton, self.batch = _pickled(self.batch, found), None
        large = {number: tensor for number, tensor in enumerate(found) if tensor.nbytes >= LARGE}
        shared = _shared(large)
        if len(shared) < len(large):
            self.notes = [*self.notes, NO_SHARED_MEMORY]
        end, copies = 0, []
        for number, tensor in enumerate(found):
            if number in shared:
                self.tensors.append(shared[number])
                continue
            strides = torch.empty_like(tensor, device="meta").stride()  # kept where no memory lies between the values
            self.tensors.append(_Place(end, tensor.dtype, tuple(tensor.shape), strides))
            copies.append((self.tensors[-1], tensor))
            end += -(-tensor.nbytes // _ALIGNED) * _ALIGNED
        block = torch.empty(end, dtype=torch.uint8)
        for place, tensor in copies:
            place.view(block).copy_(tensor)
        self.block = block.numpy().tobytes()
        return self

    def opened(self) -> Any:
        """The batch."""
        if self.skeleton is not None:
            block = self._block()
            tensors = [one.view(block) if isinstance(one, _Place) else one for one in self.tensors]
            self.batch, self.skeleton = _unpickled(self.skeleton, tensors.__getitem__), None
        return self.batch

    def pin_memory(self) -> Parcel:
        """The same parcel in page-locked memory; the DataLoader calls this."""
        if self.skeleton is None:
            self.batch = pin_memory(self.batch)
        else:
            self.block = self._block().pin_memory()
            self.tensors = [one if isinstance(one, _Place) else one.pin_memory() for one in self.tensors]
        return self

    def _block(self) -> torch.Tensor:
        if isinstance(self.block, torch.Tensor):
            return self.block
        block = torch.empty(len(self.block), dtype=torch.uint8)  # aligned, and writable
        block.numpy()[:] = np.frombuffer(self.block, np.uint8)
        return block


def _pickled(batch: object, found: list[torch.Tensor]) -> bytes:
    """The batch without its tensors, which are appended to ``found``."""
    numbers: dict[int, int] = {}

    class Pickler(pickle.Pickler):
        def persistent_id(self, value: object) -> int | None:
            if type(value) is not torch.Tensor or value.requires_grad or value.layout is not torch.strided or value.is_cuda:
                return None
            if id(value) not in numbers:
                numbers[id(value)] = len(found)
                found.append(value)
            return numbers[id(value)]

    stream = io.BytesIO()
    Pickler(stream, pickle.HIGHEST_PROTOCOL).dump(batch)
    return stream.getvalue()


def _unpickled(skeleton: bytes, tensor: Callable[[int], torch.Tensor]) -> Any:
    class Unpickler(pickle.Unpickler):
        def persistent_load(self, number: int) -> torch.Tensor:
            return tensor(number)

    return Unpickler(io.BytesIO(skeleton)).load()


def _shared(tensors: dict[int, torch.Tensor]) -> dict[int, torch.Tensor]:
    """The tensors in shared memory; none of them if it has no room for all."""
    if not has_room(sum(tensor.nbytes for tensor in tensors.values())):
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
