"""A whole CLIP, in a form that other libraries can load."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clipzoo.config.plugins import import_plugins
from clipzoo.engine import checkpoint
from clipzoo.errors import BuildError
from clipzoo.files import expanded
from clipzoo.inference.restore import checkpoint_model, checkpoint_of
from clipzoo.models.export import from_model
from clipzoo.models.weights import CLIPWeights, read_clip

if TYPE_CHECKING:
    from clipzoo.models.base import Model


def trained_model(source: str | Path, where: str, *, plugins: Sequence[str] = ()) -> tuple[Model, Path] | None:
    """The model of a checkpoint, and its file; ``None`` if the source is none of clipzoo's.

    Args:
        source: A checkpoint of clipzoo, the folder of a fold (its scored checkpoint, else the best, else the latest) or of a run with
            one fold; or weights of a CLIP.
        where: Prefix of error messages.
        plugins: Modules to import first; see ``clipzoo.load``.

    Raises:
        CheckpointError: The checkpoint is damaged, or there are several.
        BuildError: The source does not exist.
    """
    import_plugins(plugins)
    path = Path(expanded(source))
    if not path.exists():
        raise BuildError(f"{where}: {path}: no such file or folder. Pass a checkpoint, or the weights of a CLIP")
    found = checkpoint_of(path)
    if found is None:
        return None
    return checkpoint_model(checkpoint.read(found), "cpu", found), found


def drop_test_views(net: Model) -> bool:
    """Let the model encode each image once, as the exported weights will; return whether it had test views (``evaluation.tta``)."""
    had = net.image_tower is not None and bool(net.image_tower.test_views)
    if had:
        net.image_tower.test_views = ()
    return had


def warn_of_test_views(where: str) -> None:
    """Warn that an export has no test views, but the scores on record do; ``where`` names the checkpoint."""
    warnings.warn(f"{where} was scored with evaluation.tta, which the exported weights do not include", stacklevel=3)


def weights_of(source: str | Path, where: str, *, plugins: Sequence[str] = ()) -> CLIPWeights:
    """Both towers of a trained or published CLIP.

    Args:
        source: See ``trained_model``; or any file or folder that ``read_clip`` reads.
        where: Prefix of error messages.
        plugins: Modules to import first; see ``clipzoo.load``.

    Raises:
        CheckpointError: The checkpoint is damaged, or there are several.
        BuildError: The source does not exist, is not a CLIP, or is a CLIP that other libraries cannot load.
    """
    found = trained_model(source, where, plugins=plugins)
    if found is None:
        return read_clip(Path(expanded(source)), where)
    net, path = found
    if drop_test_views(net):
        warn_of_test_views(f"{where}: {path}")
    return from_model(net, f"{where}: {path}")
