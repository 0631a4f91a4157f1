"""Restoring a model from any source: a checkpoint, the folder of a fold or of a run, a published name, or weights."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from clipzoo.commands import typed
from clipzoo.config import Config
from clipzoo.config.plugins import are_names, import_plugins, not_imported
from clipzoo.config.settings import RuntimeSettings
from clipzoo.engine import build, checkpoint, work_dir
from clipzoo.engine.finished import check_checkpoint
from clipzoo.errors import BuildError, CheckpointError, ClipzooError, ConfigError, did_you_mean, first_line, shortened
from clipzoo.files import expanded, natural
from clipzoo.inference.hub_checkpoint import CONFIG as HUB_CONFIG
from clipzoo.inference.hub_checkpoint import WEIGHTS as HUB_WEIGHTS
from clipzoo.inference.hub_checkpoint import read_hub_checkpoint
from clipzoo.inference.hub_classes import HubClasses
from clipzoo.models.catalogue import with_prefix
from clipzoo.models.layout.json_file import read_object
from clipzoo.models.tower import Tower
from clipzoo.models.weights.files import kind_of_weights
from clipzoo.models.weights.hf_clip import KINDS
from clipzoo.models.weights.hub import from_hub, hub_folder, is_hub_name
from clipzoo.models.weights.torch_archive import pickle_mentions
from clipzoo.records.results import FoldResult
from clipzoo.registries import BACKBONES, MODELS, TEXT_ENCODERS
from clipzoo.structures import Preprocessing
from clipzoo.text import visible

if TYPE_CHECKING:
    from clipzoo.models.base import Model

PUBLISHED = ("clip:", "openclip:", "hf:", "chinese-clip:", "weights:")
HUB = "clipzoo:"  # before the name of a repository that export --format hub made
_NAMES = "clip:ViT-B/32, openclip:<name>/<tag>, or hf:<organisation>/<name>"
_WHAT = f"Pass a checkpoint, the folder of a fold or of a run, weights of a CLIP, {_NAMES}"


@dataclass(frozen=True)
class Restored:
    """A model with its weights, and the metadata of its source.

    Attributes:
        model: The model, in evaluation mode, on its device.
        source: Description of its origin.
        classes: Classes it was trained on, if any.
        class_captions: Sentences of each class.
        precision: Training precision, ``'fp32'``, ``'bf16'`` or ``'fp16'``; ``'fp32'`` if the source does not record it.
        channels_last: Whether its images are in channels-last memory order.
        several_images: Whether it was trained on several images per case (``data.views``).
    """

    model: Model
    source: str
    classes: tuple[str, ...] = ()
    class_captions: tuple[tuple[str, ...], ...] = ()
    precision: str = "fp32"
    channels_last: bool = False
    several_images: bool = False


def restore(source: str | Path, device: torch.device, *, quick_gelu: bool | None = None) -> Restored:
    """Restore the model that ``source`` refers to; see ``clipzoo.load``."""
    text = os.fspath(source)
    path = Path(expanded(text))
    found = checkpoint_of(path) if path.exists() else None
    with_config = (path / "open_clip_config.json").is_file()
    if quick_gelu is not None and (found is not None or with_config or not path.exists()):
        raise ConfigError(f"quick_gelu: {text} records its own activation. Remove the argument; it is for weights files that do not")
    if text.startswith(HUB):
        return from_content(read_hub_checkpoint(_repository(text)), device, text)
    if (path / HUB_CONFIG).is_file():
        return from_content(read_hub_checkpoint(path), device, path)
    if not path.exists():
        if text.startswith(PUBLISHED) or is_hub_name(text):
            return _from_name(text, device)
        raise CheckpointError(f"{text}: no such checkpoint or published name.{_near(text, path)} {_WHAT}")
    if found is not None:
        return from_checkpoint(found, device)
    if path.is_dir() and not _is_weights_folder(path):
        raise CheckpointError(f"{path}: contains no checkpoint{_elsewhere(path)}. {_WHAT}")
    if path.is_file() and kind_of_weights(path) is None:
        raise CheckpointError(f"{path}: neither a checkpoint of clipzoo nor weights of a CLIP. {_WHAT}")
    if with_config or _is_of_another_kind(path):
        spelling = f"{'openclip' if with_config else 'hf'}:{path.resolve()}"
        return _with_classes(published_model(spelling, spelling, str(path), device), path)
    return from_weights(path, device, quick_gelu)


def checkpoint_of(path: Path) -> Path | None:
    """The checkpoint at ``path``: a file, or the one of a fold's folder or of a work dir with one fold; ``None`` if it has no checkpoint.

    Raises:
        CheckpointError: ``path`` is a work dir with several folds.
    """
    if path.is_file():
        return path if path.name in (checkpoint.BEST, checkpoint.LATEST) or _is_checkpoint(path) else None
    folds = checkpoints_of_folds(path)
    if len(folds) > 1:
        raise CheckpointError(
            f"{path}: contains the checkpoints of {len(folds)} folds. Pass one of them: " + ", ".join(str(path / name) for name in folds)
        )
    return next(iter(folds.values()), None)


def checkpoints_of_folds(folder: Path) -> dict[str, Path]:
    """The selected checkpoint of every fold of a work dir, by name and in order; for the folder of a fold, its own."""
    own = _chosen(folder)
    if own is not None:
        return {folder.name: own}
    found = {entry.name: _chosen(entry) for entry in folder.iterdir() if entry.is_dir()}
    return {name: found[name] for name in sorted(found, key=natural) if found[name] is not None}


def finished_folds(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """The scored checkpoints of the finished folds of a work dir by name, in order, and the names of the folds that are not finished.

    Raises:
        CheckpointError: There are several folds, but none is finished.
    """
    found = checkpoints_of_folds(folder)
    finished = {name: path for name, path in found.items() if work_dir.is_done(path.parent)}
    if len(found) > 1 and not finished:
        raise CheckpointError(f"{folder}: no fold is done yet. Finish the training, or pass the folder of one: {', '.join(found)}")
    return finished, [name for name in found if name not in finished]


def _chosen(folder: Path) -> Path | None:
    """The scored checkpoint, after checking its digest; before scoring, the best or else the latest."""
    if work_dir.is_done(folder):
        return check_checkpoint(folder, FoldResult.read(folder))
    return next((folder / name for name in (checkpoint.BEST, checkpoint.LATEST) if (folder / name).is_file()), None)


def from_checkpoint(path: Path, device: torch.device) -> Restored:
    """Restore a model of clipzoo from its checkpoint alone.

    Raises:
        CheckpointError: The file is not a checkpoint, or its model cannot be rebuilt.
        ConfigError: An installed plugin cannot be imported.
    """
    return from_content(checkpoint.read(path), device, path)


def from_content(content: dict, device: torch.device, path: str | Path) -> Restored:
    """Restore a model from the content of its checkpoint.

    Args:
        content: Result of ``checkpoint.read``.
        device: Target device.
        path: Where it was read.

    Raises:
        CheckpointError: Its model cannot be rebuilt.
        ConfigError: An installed plugin cannot be imported.
    """
    model, settings = checkpoint_model(content, device, path), RuntimeSettings.of(content["config"])
    return Restored(
        model=model,
        source=f"{path} ({content['fold']}, epoch {content['state']['epoch']})",
        classes=tuple(content["classes"]),
        class_captions=tuple(map(tuple, content["class_captions"])),
        precision=content["precision"],
        channels_last=settings.channels_last,
        several_images=content["config"].get("data", {}).get("views") is not None,
    )


def checkpoint_model(content: dict, device: torch.device | str, where: str | Path = "checkpoint") -> Model:
    """The model of a checkpoint, in evaluation mode. Needs no hub, weights file or dataset; leaves torch's generator unchanged.

    Args:
        content: Result of ``checkpoint.read``.
        device: Target device.
        where: Prefix of error messages.

    Raises:
        CheckpointError: The model cannot be rebuilt, e.g. because a plugin is not imported, or the weights do not match it.
        ConfigError: An installed plugin cannot be imported.
    """
    device = torch.device(device)
    config = Config.from_dict(content["config"], "checkpoint")
    plugins = config.get("plugins", [])
    if not are_names(plugins):
        raise CheckpointError(f"{where}: its plugins are not module names ({visible(repr(plugins)[:80])})")
    import_plugins()  # installed plugins only, none that the file names
    with torch.random.fork_rng(devices=[]):  # for the random weights, which are replaced at once
        try:
            classes, towers, settings = len(content["classes"]), content.get("towers") or {}, RuntimeSettings.of(config)
            net = build.model(config, device, num_classes=classes, channels_last=settings.channels_last, towers=towers)
        except Exception as error:  # networks of other libraries raise many types for damaged arguments
            raise CheckpointError(f"{where}: its model cannot be rebuilt ({_with_plugins(error, plugins)}") from error
    checkpoint.load_weights(net, content["model"], where)
    net.calibration = checkpoint.calibration_of(content)
    stored = content["preprocessing"]
    net.preprocessing = Preprocessing(**{**stored, "mean": tuple(stored["mean"]), "std": tuple(stored["std"])})
    for tower in net.children():
        if isinstance(tower, Tower):
            tower.weights = f"of {where}"
    return net.eval()


def _with_classes(restored: Restored, folder: Path) -> Restored:
    """The model with the classes of a folder for the hub, if it has some; findings also need a bias that only a checkpoint has.

    Raises:
        CheckpointError: Its ``classes.json`` is damaged.
    """
    found = HubClasses.read(folder)
    if found is None or found.multi_label:
        return restored
    restored.model.calibration = found.calibration
    return replace(restored, classes=tuple(found.classes), class_captions=tuple(map(tuple, found.captions)))


def _with_plugins(error: Exception, plugins: Sequence[str]) -> str:
    """The end of an error message: what is missing, and the plugins that may define it."""
    absent = not_imported(plugins)
    reason = str(error) if isinstance(error, (ClipzooError, TypeError)) else f"{type(error).__name__}: {first_line(error)}"
    if not absent:
        return f"{reason})"
    what, names = reason.split(". ")[0], [visible(name) for name in absent[:3]]
    return (
        f"{what}). It was trained with the plugin{'s' * (len(names) > 1)} {', '.join(names)}, and a checkpoint imports nothing by itself. "
        f"Pass plugins={names} (--plugins {' '.join(names)}) if you trust {'them' if len(names) > 1 else 'it'}"
    )


def published_model(image: str | dict, text: str | dict, name: str, device: torch.device) -> Restored:
    """Both towers of a published CLIP as a model, with the temperature they were trained with.

    Args:
        image: Spec of the image tower, for BACKBONES.
        text: Spec of the text tower, for TEXT_ENCODERS.
        name: Description of their origin.
        device: Target device.

    Raises:
        ClipzooError: The name is unknown, its weights are unavailable, or it has no weights.
    """
    specs = BACKBONES.expand(image), TEXT_ENCODERS.expand(text)
    if any(spec.get("pretrained", spec.get("tag")) in (False, None) for spec in specs):
        raise BuildError(f"{name}: has no trained weights. Name trained ones, such as {_NAMES}")
    with torch.random.fork_rng(devices=[]):
        try:
            image_encoder, text_encoder = BACKBONES.build(specs[0]), TEXT_ENCODERS.build(specs[1])
        except BuildError as error:
            if "Three ways: " not in str(error):
                raise
            problem = str(error).partition(". Three ways: ")[0].partition(": ")[2]
            raise BuildError(
                f"{name}: {problem}. Connect to the hub (a mirror: set HF_ENDPOINT; ahead of time: {typed('download')} NAME), or pass a "
                "local file or folder with these weights instead of the name"
            ) from error
    if not image_encoder.projected:
        raise BuildError(f"{name}: is an image model without a text tower. Name a CLIP, such as {_NAMES}")
    assert image_encoder.space is not None and image_encoder.space == text_encoder.space
    assert image_encoder.projected and text_encoder.projected and image_encoder.num_features == text_encoder.num_features
    net = MODELS.get("CLIP")(image_encoder, text_encoder, learn_temperature=False)
    return Restored(net.to(device).eval(), name)


def _repository(name: str) -> Path:
    """The folder in the local cache that has the files of ``clipzoo:ORGANISATION/NAME``, downloaded first if necessary.

    Raises:
        BuildError: They are unavailable.
    """
    repository, required = name.removeprefix(HUB), [(HUB_CONFIG,), (HUB_WEIGHTS,)]
    return from_hub(lambda cached: hub_folder(repository, cached, required=required), "clipzoo.load", repository, local="its FOLDER")


def _from_name(name: str, device: torch.device) -> Restored:
    """A published CLIP by its name; an error about a bare one says that it is not a path either."""
    try:
        return published_model(name, name, name, device)
    except BuildError as error:
        if name.startswith(PUBLISHED):
            raise
        raise BuildError(f"{name}: no such file or folder, and {str(error).removeprefix(f'{name}: ')}") from error


def from_weights(path: Path, device: torch.device, quick_gelu: bool | None) -> Restored:
    """Restore a CLIP from a file or folder of weights in any format that ``clipzoo.models.weights`` reads.

    Raises:
        BuildError: The weights are not a CLIP, or their activation is neither recorded nor given by ``quick_gelu``.
    """
    from clipzoo.models.weights import read_clip

    kind = read_clip(path, "clipzoo.load").text_kind
    common = {"pretrained": str(path), "quick_gelu": quick_gelu}
    text = {"type": "CLIPText", **common} if kind == "clip" else {"type": "BERT", "pretrained": str(path)}
    return published_model({"type": "CLIPVision", **common}, text, str(path), device)


def _is_checkpoint(path: Path) -> bool:
    """Whether the file was written by clipzoo; its weights are not read."""
    return kind_of_weights(path) == "archive" and pickle_mentions(path, checkpoint.FORMAT)


def _is_weights_folder(path: Path) -> bool:
    """Whether the folder has a config of open_clip or transformers; ``config.json`` may also belong to a work dir."""
    if (path / "open_clip_config.json").is_file():
        return True
    return (path / "config.json").is_file() and not (path / work_dir.FOLDS_FILE).exists()


def _is_of_another_kind(path: Path) -> bool:
    """Whether a folder of transformers has a CLIP with other towers than CLIP's own, such as a SigLIP."""
    if not (path / "config.json").is_file():
        return False
    kind = read_object(path / "config.json", str(path)).get("model_type")
    return kind in KINDS and kind not in ("clip", "chinese_clip")


def _elsewhere(path: Path) -> str:
    """The part of an error message that names folders in ``path`` with a checkpoint."""
    folders = [entry for entry in sorted(path.iterdir()) if entry.is_dir() and checkpoints_of_folds(entry)]
    return f", but there are some in {shortened(folders, 3)}" if folders else ""


def _near(text: str, path: Path) -> str:
    """A suggestion for a name that is neither a path nor a published name."""
    siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    hint = did_you_mean(path.name, siblings)
    if with_prefix(text) is not None:
        return f" Did you mean {with_prefix(text)!r}?"
    return hint or did_you_mean(text, ["clip:ViT-B/32", "clip:ViT-B/16", "clip:ViT-L/14", "clip:RN50", "clip:RN101"])
