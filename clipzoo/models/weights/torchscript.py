"""Reading of the weights in TorchScript archives without TorchScript: ``torch.jit.load`` would run the archive's code.

An archive contains a tree of modules in ``data.pkl``, their tensors' bytes in ``data/``, and the source of their classes in ``code/``.
The source is parsed as text, as only it defines which tensors are parameters and buffers.
"""

from __future__ import annotations

import ast
import math
import re
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from clipzoo.errors import DataError
from clipzoo.models.weights.plain_pickle import Bag, Class, Function, read_pickle
from clipzoo.models.weights.torch_archive import verified

_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
}
_MOST_MODULES = 100_000  # shared modules count repeatedly; OpenAI's largest archive has some hundreds
_DEEPEST = 100


def script_state(path: str | Path) -> dict[str, Tensor]:
    """The result of ``torch.jit.load(path, map_location='cpu').state_dict()``, without running the archive's code.

    Raises:
        DataError: The archive is damaged, not TorchScript, or contains objects that only its code can create.
    """
    with verified(path) as archive:
        try:
            return _Reader(archive).state()
        except DataError as error:
            raise DataError(f"{path}: cannot be read as a TorchScript archive: {error}") from error


@dataclass(frozen=True)
class _Storage:
    values: Tensor


class _Reader:
    def __init__(self, archive: zipfile.ZipFile):
        self._archive = archive
        self._root = archive.namelist()[0].partition("/")[0]
        self._storages: dict[str, _Storage] = {}
        self._members: dict[str, tuple[str, ...] | None] = {}
        self._visits = 0
        order = self._read("byteorder").decode("ascii", "replace") if self._has("byteorder") else "little"
        if order not in ("little", "big"):
            raise DataError(f"its byte order is {order!r}")
        self._swap = order != sys.byteorder

    def state(self) -> dict[str, Tensor]:
        module = read_pickle(self._read("data.pkl"), self._find, self._load)
        if not isinstance(module, Bag):
            raise DataError("its data.pkl contains no module")
        state: dict[str, Tensor] = {}
        self._collect(module, "", state, 0)
        return state

    def _collect(self, module: Bag, prefix: str, state: dict[str, Tensor], depth: int) -> None:
        """Collect the parameters and buffers of a module, then those of its submodules."""
        self._visits += 1
        if depth > _DEEPEST or self._visits > _MOST_MODULES:
            raise DataError("its modules are nested too deeply or too numerous")
        members = self._members_of(module.kind)
        if members is None:
            return
        if not isinstance(module.state, dict) or not all(isinstance(name, str) for name in module.state):
            raise DataError(f"the state of {module.kind.name} is not a set of attributes")
        for name in members:
            value = module.state.get(name)
            if isinstance(value, Tensor):
                state[prefix + name] = value
        for name, value in module.state.items():
            if isinstance(value, Bag):
                self._collect(value, f"{prefix}{name}.", state, depth + 1)

    def _members_of(self, kind: Class) -> tuple[str, ...] | None:
        """The parameters and buffers of a module class, from its source; ``None`` for other classes.

        Raises:
            DataError: The source is missing, or creates its objects by ``__setstate__``.
        """
        if kind.name not in self._members:
            self._members[kind.name] = self._look_up(kind.name)
        return self._members[kind.name]

    def _look_up(self, qualified: str) -> tuple[str, ...] | None:
        module, _, name = qualified.rpartition(".")
        file = f"code/{module.replace('.', '/')}.py"
        if not self._has(file):
            raise DataError(f"the source of {qualified} is missing")
        source = self._read(file).decode("utf-8", "replace")
        found = re.findall(rf"^class {re.escape(name)}(?:\((\w*)\))?:\n((?:(?:  .*)?\n)*)", source, re.MULTILINE)
        if len(found) != 1:
            raise DataError(f"the source of {qualified} is missing or duplicated")
        base, body = found[0]
        if base != "Module":
            return None
        if "__setstate__" in body:
            raise DataError(f"{qualified} would run code when loaded (__setstate__), unlike OpenAI's")
        lists = [re.findall(rf"^  __{which}__ = (\[.*\])$", body, re.MULTILINE) for which in ("parameters", "buffers")]
        try:
            return tuple(name for texts in lists for text in texts for name in ast.literal_eval(text))
        except (ValueError, SyntaxError) as error:
            raise DataError(f"the source of {qualified} is damaged ({error})") from error

    def _find(self, module: str, name: str) -> object:
        """The names that a TorchScript pickle may refer to."""
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if module == "__torch__" or module.startswith("__torch__."):
            return Class(f"{module}.{name}")
        function = _FUNCTIONS.get(f"{module}.{name}")
        if function is None:
            raise DataError(f"it contains {module}.{name}, which is not supported")
        return Function(function)

    def _load(self, key: object) -> _Storage:
        """The storage with a persistent id."""
        match key:
            case ("storage", torch.dtype() as dtype, str(name), str(), int(count)):
                pass
            case _:
                raise DataError("a tensor's storage has a name that torch does not use")
        if not self._has(f"data/{name}"):
            raise DataError(f"its storage data/{name} is missing")
        if name not in self._storages:
            self._storages[name] = _Storage(self._values(f"data/{name}", dtype))
        storage = self._storages[name]
        if storage.values.dtype != dtype or len(storage.values) != count:
            raise DataError(f"data/{name} contains {len(storage.values)} numbers of {storage.values.dtype}, not {count} of {dtype}")
        return storage

    def _values(self, name: str, dtype: torch.dtype) -> Tensor:
        content = bytearray(self._read(name))
        if len(content) % dtype.itemsize:
            raise DataError(f"{name} has {len(content)} bytes, not a multiple of the size of {dtype}")
        if not content:
            return torch.empty(0, dtype=dtype)
        values = torch.frombuffer(content, dtype=torch.uint8)
        if self._swap:
            values = values.view(-1, dtype.itemsize // (2 if dtype.is_complex else 1)).flip(1).reshape(-1)
        if dtype == torch.bool and values.max() > 1:
            raise DataError(f"{name} contains values other than true and false")
        return values.view(dtype)

    def _has(self, name: str) -> bool:
        return f"{self._root}/{name}" in self._archive.NameToInfo

    def _read(self, name: str) -> bytes:
        if not self._has(name):
            raise DataError(f"its {name} is missing")
        return self._archive.read(f"{self._root}/{name}")


def _tensor(storage: object, offset: object, size: object, stride: object, _: object, hooks: object = None, *rest: object) -> Tensor:
    """A view of a storage; its elements must be inside the storage."""
    if not isinstance(storage, _Storage) or not isinstance(size, tuple) or not isinstance(stride, tuple) or len(size) != len(stride):
        raise DataError("a tensor has a description that torch does not use")
    if not all(type(number) is int and 0 <= number < 1 << 62 for number in (offset, *size, *stride)):
        raise DataError(f"a tensor has the offset {offset}, the shape {size} and the strides {stride}")
    if hooks or rest:
        raise DataError("a tensor has hooks or flags, which are not supported")
    values = storage.values
    count = math.prod(size)
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True)) if count else offset - 1
    if count > len(values) or last >= len(values):
        raise DataError(f"a tensor of the shape {list(size)} does not fit into its {len(values)} numbers")
    return values.as_strided(size, stride, offset)


def _first(value: object, *_: object) -> object:
    return value


_FUNCTIONS: dict[str, Callable] = {
    "torch._utils._rebuild_tensor_v2": _tensor,
    "collections.OrderedDict": dict,
    "torch.device": _first,
    "torch.jit._pickle.restore_type_tag": _first,
    **{f"torch.jit._pickle.build_{kind}list": _first for kind in ("int", "double", "bool", "tensor")},
}
