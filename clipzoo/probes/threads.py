"""Threads of the BLAS libraries, which small products are faster without."""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

_SMALL = 10_000_000  # elements of a feature matrix


def threads_for(size: int) -> AbstractContextManager:
    """One thread inside the block for a feature matrix with few elements, ``size``; as many as usual for a larger one.

    For small products most time is spent on waking threads: fitting 1 437 x 512 features in 10 classes is five times as fast with one.
    """
    return _blas().limit(limits=1 if size < _SMALL else None, user_api="blas")


@functools.cache
def _blas() -> ThreadpoolController:
    """Thread control of the BLAS libraries; finding them takes longer than learning a few images."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
