"""From what a user names to a model that is ready for use: a checkpoint, the folder of a fold or of a run, a published name, weights."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from clipzoo.config import Config
from clipzoo.config.plugins import are_names, import_plugins, not_imported
from clipzoo.config.settings import RuntimeSettings
from clipzoo.engine import build, checkpoint, work_dir
from clipzoo.engine.finished import check_checkpoint
from clipzoo.errors import BuildError, CheckpointError, ClipzooError, ConfigError, did_you_mean, shortened
from clipzoo.files import expanded, natural
from clipzoo.models.base import Tower
from clipzoo.models.weights.files import kind_of_weights
from clipzoo.models.weights.torch_archive import pickle_mentions
from clipzoo.records.results import FoldResult
from clipzoo.registries import BACKBONES, MODELS, TEXT_ENCODERS
from clipzoo.structures import Preprocessing
from clipzoo.text import visible

if TYPE_CHECKING:
    from clipzoo.models.base import Model

PUBLISHED = ("clip:", "openclip:")
_WHAT = "Give a checkpoint, the folder of a fold or of a run, weights of a CLIP, clip:ViT-B/32, or openclip:<name>/<tag>"


@dataclass(frozen=True)
class Restored:
    """A model with its weights, and what its source says of it.

    Attributes:
        model: In evaluation mode, on its device.
        source: Where it comes from, in words.
        classes: Of a model that was trained on classes.
        class_captions: The sentences that stand for each of them.
        precision: It was trained in, ``'fp32'``, ``'bf16'`` or ``'fp16'``; ``'fp32'`` where the source says none.
        channels_last: Memory order of its images.
    """

    model: Model
    source: str
    classes: tuple[str, ...] = ()
    class_captions: tuple[tuple[str, ...], ...] = ()
    precision: str = "fp32"
    channels_last: bool = False


def restore(source: str | Path, device: torch.device, *, quick_gelu: bool | None = None) -> Restored:
    """The model that ``source`` means; see ``clipzoo.load``."""
    text = os.fspath(source)
    path = Path(expanded(text))
    found = checkpoint_of(path) if path.exists() else None
    with_config = (path / "open_clip_config.json").is_file()
    if quick_gelu is not None and (found is not None or with_config or not path.exists()):
        raise ConfigError(f"quick_gelu: {text} knows its activation itself. Leave it out; it is for weights whose file does not say it")
    if not path.exists():
        if text.startswith(PUBLISHED):
            return published_model(text, text, text, device)
        raise CheckpointError(f"{text}: no such checkpoint, and no published name.{_near(text, path)} {_WHAT}")
    if found is not None:
        return from_checkpoint(found, device)
    if path.is_dir() and not _is_weights_folder(path):
        raise CheckpointError(f"{path}: holds no checkpoint{_elsewhere(path)}. {_WHAT}")
    if path.is_file() and kind_of_weights(path) is None:
        raise CheckpointError(f"{path}: neither a checkpoint of clipzoo nor weights of a CLIP. {_WHAT}")
    if with_config:
        spelling = f"openclip:{path.resolve()}"
        return published_model(spelling, spelling, str(path), device)
    return from_weights(path, device, quick_gelu)


def checkpoint_of(path: Path) -> Path | None:
    """The one checkpoint that ``path`` means: itself, that of a fold's folder, or that of a work dir with one fold; ``None`` for none.

    Raises:
        CheckpointError: It is a work dir with several folds.
    """
    if path.is_file():
        return path if path.name in (checkpoint.BEST, checkpoint.LATEST) or _is_checkpoint(path) else None
    folds = checkpoints_of_folds(path)
    if len(folds) > 1:
        raise CheckpointError(
            f"{path}: holds the checkpoints of {len(folds)} folds. Give one of them: " + ", ".join(str(path / name) for name in folds)
        )
    return next(iter(folds.values()), None)


def checkpoints_of_folds(folder: Path) -> dict[str, Path]:
    """The chosen checkpoint of every fold of a work dir, by name and in order; of a fold's own folder, its one."""
    own = _chosen(folder)
    if own is not None:
        return {folder.name: own}
    found = {entry.name: _chosen(entry) for entry in folder.iterdir() if entry.is_dir()}
    return {name: found[name] for name in sorted(found, key=natural) if found[name] is not None}


def finished_folds(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """The scored checkpoints of the finished folds of a work dir by name, in order, and the names of the folds that are not finished.

    Raises:
        CheckpointError: There are folds, and none is finished.
    """
    found = checkpoints_of_folds(folder)
    finished = {name: path for name, path in found.items() if work_dir.is_done(path.parent)}
    if len(found) > 1 and not finished:
        raise CheckpointError(f"{folder}: no fold is done yet. Finish the training, or give the folder of one: {', '.join(found)}")
    return finished, [name for name in found if name not in finished]


def _chosen(folder: Path) -> Path | None:
    """The checkpoint that was scored, and no other under its name; where none was yet, the best, or else the latest."""
    if work_dir.is_done(folder):
        return check_checkpoint(folder, FoldResult.read(folder))
    return next((folder / name for name in (checkpoint.BEST, checkpoint.LATEST) if (folder / name).is_file()), None)


def from_checkpoint(path: Path, device: torch.device) -> Restored:
    """A model of this project, from its checkpoint alone.

    Raises:
        CheckpointError: The file is none, or its model cannot be made again.
        ConfigError: An installed plugin cannot be imported.
    """
    content = checkpoint.read(path)
    settings = RuntimeSettings.of(content["config"])
    return Restored(
        model=checkpoint_model(content, device, path),
        source=f"{path} ({content['fold']}, epoch {content['state']['epoch']})",
        classes=tuple(content["classes"]),
        class_captions=tuple(map(tuple, content["class_captions"])),
        precision=content["precision"],
        channels_last=settings.channels_last,
    )


def checkpoint_model(content: dict, device: torch.device | str, where: str | Path = "checkpoint") -> Model:
    """The model of a checkpoint, in evaluation mode. Needs no hub, no weights file and no dataset; draws nothing from torch's generator.

    Args:
        content: What ``checkpoint.read`` returned.
        device: Where the model shall be.
        where: First words of a message.

    Raises:
        CheckpointError: It cannot be made, as where it needs a plugin that nobody imported, or the weights do not fit.
        ConfigError: An installed plugin cannot be imported.
    """
    device = torch.device(device)
    config = Config.from_dict(content["config"], "checkpoint")
    plugins = config.get("plugins", [])
    if not are_names(plugins):
        raise CheckpointError(f"{where}: its plugins are no names of modules ({visible(repr(plugins)[:80])})")
    import_plugins()  # what is installed, and nothing that the file names
    settings = RuntimeSettings.of(config)
    with torch.random.fork_rng(devices=[]):  # for the random weights, which are replaced at once
        try:
            classes, towers = len(content["classes"]), content.get("towers") or {}
            net = build.model(config, device, num_classes=classes, channels_last=settings.channels_last, towers=towers)
        except (ClipzooError, TypeError) as error:
            raise CheckpointError(f"{where}: its model cannot be made again ({_with_plugins(error, plugins)}") from error
    checkpoint.load_weights(net, content["model"], where)
    said = content["preprocessing"]
    net.preprocessing = Preprocessing(**{**said, "mean": tuple(said["mean"]), "std": tuple(said["std"])})
    for tower in net.children():
        if isinstance(tower, Tower):
            tower.weights = f"of {where}"
    return net.eval()


def _with_plugins(error: Exception, plugins: Sequence[str]) -> str:
    """What is missing, and the plugins that might have it, for a message."""
    absent = not_imported(plugins)
    if not absent:
        return f"{error})"
    what, names = str(error).split(". ")[0], [visible(name) for name in absent[:3]]
    return (
        f"{what}). It was trained with the plugin{'s' * (len(names) > 1)} {', '.join(names)}, and a checkpoint imports nothing by itself. "
        f"Pass plugins={names} (--plugins {' '.join(names)}) if you trust {'them' if len(names) > 1 else 'it'}"
    )


def published_model(image: str | dict, text: str | dict, name: str, device: torch.device) -> Restored:
    """Two towers of one published CLIP as a model, with the temperature they were trained with.

    Args:
        image: What BACKBONES builds.
        text: What TEXT_ENCODERS builds.
        name: Where they come from, in words.
        device: Where the model shall be.

    Raises:
        ClipzooError: It is not known, cannot be had, or names no weights.
    """
    specs = BACKBONES.expand(image), TEXT_ENCODERS.expand(text)
    if any(spec.get("pretrained", spec.get("tag")) in (False, None) for spec in specs):
        raise BuildError(f"{name}: has no trained weights. Name some, as clip:ViT-B/32 or openclip:<name>/<tag>")
    with torch.random.fork_rng(devices=[]):
        try:
            image_encoder, text_encoder = BACKBONES.build(specs[0]), TEXT_ENCODERS.build(specs[1])
        except BuildError as error:
            if "Three ways: " not in str(error):
                raise
            problem = str(error).partition(". Three ways: ")[0].partition(": ")[2]
            raise BuildError(
                f"{name}: {problem}. Connect to the hub (or to a mirror: set HF_ENDPOINT), or name a local file or folder with these "
                "weights in the place of this name"
            ) from error
    assert image_encoder.space is not None and image_encoder.space == text_encoder.space
    assert image_encoder.projected and text_encoder.projected and image_encoder.num_features == text_encoder.num_features
    net = MODELS.get("CLIP")(image_encoder, text_encoder, learn_temperature=False)
    return Restored(net.to(device).eval(), name)


def from_weights(path: Path, device: torch.device, quick_gelu: bool | None) -> Restored:
    """A CLIP from a file or folder of weights in any format that ``clipzoo.models.weights`` reads.

    Raises:
        BuildError: It is none, or does not say its activation and ``quick_gelu`` does not either.
    """
    from clipzoo.models.weights import read_clip

    kind = read_clip(path, "clipzoo.load").text_kind
    said = {"pretrained": str(path), "quick_gelu": quick_gelu}
    text = {"type": "CLIPText", **said} if kind == "clip" else {"type": "BERT", "pretrained": str(path)}
    return published_model({"type": "CLIPVision", **said}, text, str(path), device)


def _is_checkpoint(path: Path) -> bool:
    """Was the file written by this project? Its weights are not read."""
    return kind_of_weights(path) == "archive" and pickle_mentions(path, checkpoint.FORMAT)


def _is_weights_folder(path: Path) -> bool:
    """Has it a config of open_clip or transformers? That of a work dir has the same name."""
    if (path / "open_clip_config.json").is_file():
        return True
    return (path / "config.json").is_file() and not (path / work_dir.FOLDS_FILE).exists()


def _elsewhere(path: Path) -> str:
    """Which folders in ``path`` have a checkpoint, for a message."""
    folders = [entry for entry in sorted(path.iterdir()) if entry.is_dir() and checkpoints_of_folds(entry)]
    return f". There are some in {shortened(folders, 3)}" if folders else ""


def _near(text: str, path: Path) -> str:
    """What was probably meant by a name that is neither a path nor a published name."""
    siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    hint = did_you_mean(path.name, siblings)
    return hint or did_you_mean(text, ["clip:ViT-B/32", "clip:ViT-B/16", "clip:ViT-L/14", "clip:RN50", "clip:RN101"])
