"""Loading a model for use: a single model, or the ensemble of the finished folds of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from clipzoo.config.plugins import import_plugins
from clipzoo.errors import ConfigError, did_you_mean
from clipzoo.files import expanded
from clipzoo.inference.classifier import LoadedClassifier
from clipzoo.inference.clip import LoadedCLIP, has_text_side
from clipzoo.inference.ensemble import FoldEnsemble
from clipzoo.inference.restore import finished_folds, restore
from clipzoo.runtime import device as runtime

Precision = Literal["auto", "fp32", "bf16", "fp16"]


def load(
    source: str | Path,
    *,
    device: str = "auto",
    precision: Precision = "auto",
    quick_gelu: bool | None = None,
    plugins: Sequence[str] = (),
) -> LoadedCLIP | LoadedClassifier | FoldEnsemble:
    """A trained model, the folds of a run, or a published CLIP, ready for use. A checkpoint needs no hub, no dataset and no other file.

    Args:
        source: A checkpoint of clipzoo; the folder of a fold (its scored checkpoint, else the best, else the latest); a work dir, for
            the ensemble of its finished folds; a file or folder with the weights of a CLIP, as OpenAI, open_clip, transformers and
            Chinese-CLIP save them; ``'clip:ViT-B/32'``; ``'openclip:ViT-B-32/laion2b_s34b_b79k'``; ``'hf:openai/clip-vit-base-patch32'``
            and any other name of a CLIP that ``clipzoo models`` lists; a folder of ``export --format hub``, or ``'clipzoo:'`` and the
            name of a repository with its files.
        device: Target device; ``'auto'`` prefers CUDA, then MPS, then the CPU.
        precision: Precision of the computation; weights and features stay fp32. ``'auto'``: as in training; fp32 for published weights.
        quick_gelu: Whether the activation is QuickGELU, for a weights file that does not record it.
        plugins: Modules to import first, which define parts of a checkpoint's model. A checkpoint itself imports only plugins that are
            installed with an entry point.

    Returns:
        A ``LoadedCLIP``; a ``LoadedClassifier`` for a model with a classifier, such as ``ImageClassifier``; a ``FoldEnsemble`` for a work
        dir with several folds.

    Raises:
        CheckpointError: The checkpoint does not exist, is damaged or foreign, or no fold of the work dir is finished.
        BuildError: Weights are missing or unreadable, the device is unavailable, or the model has neither a text side nor its own classes.
        ConfigError: A module of ``plugins`` cannot be imported, or the precision is unknown.
        RegistryError: The published name is unknown.
    """
    options = {"device": device, "precision": precision, "quick_gelu": quick_gelu, "plugins": plugins}
    folder = Path(expanded(source))
    finished, unfinished = finished_folds(folder) if folder.is_dir() else ({}, [])
    if len(finished) + len(unfinished) < 2:
        return load_one(source, **options)
    return FoldEnsemble({name: load_one(path, **options) for name, path in finished.items()}, str(folder), unfinished)


def load_one(
    source: str | Path,
    *,
    device: str = "auto",
    precision: Precision = "auto",
    quick_gelu: bool | None = None,
    plugins: Sequence[str] = (),
) -> LoadedCLIP | LoadedClassifier:
    """Load a single model; see ``load`` for the arguments.

    Raises:
        CheckpointError: ``source`` is a work dir with several folds, or a reason of ``load``.
        ClipzooError: A reason of ``load``.
    """
    import_plugins(plugins)
    if precision not in ("auto", *runtime.DTYPES):
        hint = did_you_mean(str(precision), runtime.DTYPES)
        raise ConfigError(f"precision: {precision!r} is not supported.{hint} Allowed: auto, {', '.join(runtime.DTYPES)}")
    restored = restore(source, runtime.choose_device(device), quick_gelu=quick_gelu)
    is_classifier = not has_text_side(restored) and restored.classes and restored.model.captions == "none"
    kind = LoadedClassifier if is_classifier else LoadedCLIP
    return kind(restored, precision=restored.precision if precision == "auto" else precision)
