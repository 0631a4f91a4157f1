"""Checkpoints: plain tensors and plain types, written atomically, sealed with a digest, loaded strictly.

``checkpoint_best.pth`` holds the model; ``checkpoint_latest.pth`` also holds what is needed to resume bit for bit. Both record what they
were made from: a file of another fold, config, split or data is refused.
Not included: images (a checkpoint holds its classes and captions), compiled code and timings, so that equal runs write equal files.
"""

from __future__ import annotations

import math
import os
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import torch

from clipzoo.engine import work_dir
from clipzoo.engine.saver import NEXT, Saver
from clipzoo.engine.state import TrainState
from clipzoo.errors import CheckpointError, DataError, first_line
from clipzoo.files import write_atomically
from clipzoo.models.layout.states import differences, not_finite, shapes_of
from clipzoo.models.tower import Tower
from clipzoo.models.weights.clipzoo_format import FORMAT
from clipzoo.records.json_records import as_record
from clipzoo.records.provenance import Provenance
from clipzoo.records.sealed import check_seal, seal
from clipzoo.runtime import distributed, sharding
from clipzoo.runtime.seeds import rng_state, set_rng_state
from clipzoo.structures import Preprocessing

if TYPE_CHECKING:
    from torch import nn

    from clipzoo.engine.state import Run

BEST = "checkpoint_best.pth"
LATEST = "checkpoint_latest.pth"
START = "checkpoint_start.pth"  # the weights before training, with evaluation.wise_ft only


@dataclass(frozen=True)
class BestContent:
    """The keys of every checkpoint; ``read`` validates a file against them."""

    format: str
    kind: Literal["best", "latest", "start"]
    model: dict[str, Any]
    towers: dict[str, dict]
    config: dict[str, Any]
    provenance: dict[str, str]
    fold: str
    classes: list[str]
    class_captions: list[list[str]]
    preprocessing: dict[str, Any]
    precision: Literal["fp32", "bf16", "fp16"]
    state: dict[str, Any]
    calibration: dict[str, Any] | None = field(default=None, kw_only=True)
    interpolation: dict[str, Any] | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class LatestContent(BestContent):
    """The keys of a checkpoint that training can be resumed from."""

    optimizer: dict[str, Any]
    scaler: dict[str, Any]
    generators: list[dict]
    hooks: list[list]
    meters: list[dict]
    stop_reason: str | None
    rounding: dict[str, str | int | None]
    raw_model: dict[str, Any] | None = None
    averages: int | None = None
    live: dict[str, Any] | None = None


def saver_of(folder: Path) -> Saver:
    """The saver of a run in ``folder``."""
    return Saver(write, folder / BEST, folder / LATEST)


def keep_best(run: Run) -> None:
    """Keep the model of the best epoch so far; ``save_latest`` writes it. A collective operation."""
    content = {**model_content(run), "kind": "best"}
    if run.is_main:
        run.saver.keep_best(content)


def save_start(run: Run) -> None:
    """Write the model before its first step. A collective operation."""
    content = {**model_content(run), "kind": "start"}
    distributed.from_main(lambda: write(run.folder / START, content))


def save_latest(run: Run, *, background: bool = False) -> None:
    """Write what ``keep_best`` has kept, and everything that is needed to resume. A collective operation, as each process may hold a part.

    Args:
        run: The run.
        background: Whether training goes on while the files are written. Otherwise they are on disk before any process continues: one of
            them could score an earlier file in place of the last epoch.
    """
    content = latest_content(run)
    distributed.from_main(lambda: run.saver.save_latest(content, background=background))


def save_if_due(run: Run) -> None:
    """``save_latest`` in the background, if ``runtime.save_every`` or the time since the last one says so. A collective operation."""
    every = run.runtime.save_every
    if distributed.from_main(lambda: run.saver.is_due() if every is None else run.state.epoch % every == 0):
        save_latest(run, background=True)


def latest_content(run: Run) -> dict:
    """The content of a latest checkpoint. A collective operation."""
    content = model_content(run)
    if run.averaged is not None:
        content.update(raw_model=sharding.model_state(run.model), averages=int(run.averaged.n_averaged))
    if run.live is not None:
        content.update(live=run.live.state_dict(run.averaged))
    content.update(
        kind="latest",
        optimizer=sharding.optimizer_state(run.optimizer),
        scaler=run.scaler.state_dict(),
        generators=distributed.gathered(rng_state(run.device)),
        hooks=[[type(hook).__name__, hook.state_dict()] for hook in run.hooks],
        meters=distributed.gathered(run.meter.state_dict()),
        stop_reason=run.stop_reason,
        rounding=run.rounding,
    )
    return content


def model_content(run: Run) -> dict:
    """The content of every checkpoint: weights (their moving average, if any) and everything needed to use them."""
    captions = run.dataset.captions.worded(run.model.tokenizer)
    preprocessing = asdict(run.model.preprocessing)
    return {
        "format": FORMAT,
        "model": sharding.model_state(run.scored),
        "towers": {name: tower.blueprint() for name, tower in run.model.named_children() if isinstance(tower, Tower)},
        "config": run.config,
        "provenance": run.provenance.plain(),
        "fold": run.split.name,
        "classes": list(run.dataset.classes),
        "class_captions": [[captions.sentences[i] for i in ids] for ids in run.dataset.class_captions()],
        "preprocessing": {**preprocessing, "mean": list(preprocessing["mean"]), "std": list(preprocessing["std"])},
        "precision": run.precision,
        "state": asdict(run.state),
    }


def read(
    path: str | Path,
    device: torch.device | str = "cpu",
    *,
    kind: Literal["best", "latest", "start"] | None = None,
    advice: str = "Use another copy of the file",
    mmap: bool = False,
) -> dict:
    """Load a checkpoint with ``weights_only=True``, after checking its digest.

    Args:
        path: The file.
        device: Target device of its tensors.
        kind: Required kind; ``None`` accepts all. Training can only be resumed from a latest checkpoint.
        advice: Last sentence of an error message: what to do about a damaged file.
        mmap: Memory-map the file, so that tensors are read when they are used.

    Returns:
        A dict with the keys of ``BestContent`` or ``LatestContent``, and ``digest``, the digest of the file.

    Raises:
        CheckpointError: The file is missing, damaged, not written by clipzoo, or of the other kind.
    """
    path = Path(path)
    if not path.exists():
        raise CheckpointError(f"{path}: no such checkpoint")
    try:
        digest = check_seal(path)
        content = torch.load(path, map_location=device, weights_only=True, mmap=mmap or None)
    except DataError as error:
        raise CheckpointError(f"{error}. {advice}") from error
    except Exception as error:  # torch raises many types for a broken archive
        reason = first_line(error).split(". ")[0]
        raise CheckpointError(f"{path}: not a complete checkpoint ({reason}). {advice}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not a checkpoint of clipzoo ({FORMAT})")
    check_content(content, path, advice)
    if kind is not None and content["kind"] != kind:
        raise CheckpointError(f"{path}: is a {content['kind']} checkpoint with the name of a {kind} one. {advice}")
    return {**content, "digest": digest}


def check_content(content: dict, where: object, advice: str) -> None:
    """Validate the keys of a checkpoint and the types of their values, down to the second level.

    Raises:
        CheckpointError: A key is missing or unknown, or its value has the wrong type.
    """
    as_record(LatestContent if content.get("kind") == "latest" else BestContent, content, where, advice)
    as_record(TrainState, content["state"], f"{where}: state", advice)
    as_record(Preprocessing, content["preprocessing"], f"{where}: preprocessing", advice)
    factor = calibration_of(content)
    if not (isinstance(factor, float) and 0 < factor < math.inf):
        raise CheckpointError(f"{where}: calibration: temperature must be a number above 0. {advice}")
    for key in ("model", "raw_model"):
        others = [name for name, value in (content.get(key) or {}).items() if not isinstance(value, torch.Tensor)]
        if others:
            raise CheckpointError(f"{where}: {key}: '{others[0]}' is not a tensor. {advice}")


def calibration_of(content: dict) -> float:
    """The fitted temperature of a checkpoint; 1 if it is not calibrated."""
    return (content.get("calibration") or {"temperature": 1.0}).get("temperature")


def save_calibration(path: Path, content: dict, calibration: dict) -> None:
    """Write the checkpoint ``content`` again, with ``calibration``: equal files, however often it is repeated."""
    write(path, {**{key: value for key, value in content.items() if key != "calibration"}, "calibration": calibration})


def how_to_retrain(folder: Path) -> str:
    """The advice for a damaged or foreign file in the folder of a fold."""
    return f"Delete {folder} to train that fold again"


def earlier_start(folder: Path, provenance: Provenance) -> dict | None:
    """The model of an earlier start: ``path``, ``towers`` and ``model`` of the checkpoint in ``folder``, with memory-mapped tensors;
    ``None`` without a checkpoint.

    A best checkpoint without a latest one is used only if the fold is done and will be scored: a run that was killed before its first
    latest checkpoint starts from scratch, not from the weights selected on its val part.

    Raises:
        CheckpointError: The checkpoint is damaged, or belongs to another fold, config, split or data.
    """
    for name, kind in ((LATEST, "latest"), (BEST, "best")) if work_dir.is_done(folder) else ((LATEST, "latest"),):
        path = folder / name
        if path.exists():
            content = read(path, kind=kind, advice=how_to_retrain(folder), mmap=True)
            provenance.check(content["provenance"], path, how_to_retrain(folder))
            return {"path": path, **{key: content[key] for key in ("towers", "model")}}
    return None


def load_weights(model: nn.Module, weights: dict[str, torch.Tensor], where: str | Path) -> None:
    """Load ``weights`` strictly.

    Raises:
        CheckpointError: Keys are missing, unexpected or of another shape (all are listed), or a weight is not finite. The model is then
            unchanged.
    """
    problems = differences(shapes_of(weights), shapes_of(model.state_dict()))
    if problems:
        raise CheckpointError(f"{where}: the weights belong to another model ({problems}). Use the config it was trained with")
    problem = not_finite(weights)
    if problem:
        raise CheckpointError(f"{where}: {problem}, so no prediction would be valid. The training diverged; use another checkpoint")
    sharding.load_model_state(model, weights)


def resume(run: Run) -> bool:
    """Resume from ``checkpoint_latest.pth``, if it exists; return whether it does."""
    path = run.folder / LATEST
    distributed.from_main(lambda: settle_best(run.folder))
    exists = distributed.gathered(path.exists())
    if any(exists) and not all(exists):
        raise CheckpointError(
            f"{path}: not visible to every process. Training on several machines needs a work dir on a shared file system"
        )
    if not exists[0]:
        return False
    content = read(path, kind="latest", advice=how_to_retrain(run.folder))
    run.provenance.check(content["provenance"], path, how_to_retrain(run.folder))
    if run.live is not None:
        content = run.live.adopted(content, run.model, run.optimizer)
    load_weights(run.model, content.get("raw_model", content["model"]), path)
    before = len(content["generators"])
    if before != run.world_size:
        raise CheckpointError(
            f"{path}: the number of processes was {before} and is {run.world_size}, so the joint batch size would change. "
            f"Start {before} processes, or delete {path.parent} to train that fold again"
        )
    if content["precision"] != run.precision:
        raise CheckpointError(
            f"{path}: was trained in {content['precision']}, but runtime.precision='auto' means {run.precision} on this machine. "
            f"Resume on the original machine, or delete {path.parent} to train that fold again"
        )
    try:
        sharding.load_optimizer_state(run.optimizer, content["optimizer"])
        run.scaler.load_state_dict(content["scaler"])
        run.state = TrainState(**content["state"])
        if run.averaged is not None:
            load_weights(run.averaged.module, content["model"], path)
            run.averaged.n_averaged.fill_(content["averages"])
        if run.live is not None:
            run.live.load_state_dict(content.get("live"), run.averaged)
        elif content.get("live") is not None:
            raise ValueError("train.live_vocabulary: it was trained with some rows of the token table, and now most of them are in use")
        restore_hooks(run, content["hooks"])
        run.meter.load_state_dict(content["meters"][distributed.rank()])
        run.stop_reason = content["stop_reason"]
        set_rng_state(content["generators"][distributed.rank()], run.device)
    except (KeyError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path}: does not match this run ({error}). Delete it to train {run.split.name} from the start") from error
    note_rounding(run, content["rounding"])
    if content["state"].keys() < asdict(TrainState()).keys() and run.state.best_epoch:
        run.state.notes.append(f"until step {run.state.step} trained by an earlier version, which kept the first of equally good epochs")
    return True


def settle_best(folder: Path) -> None:
    """Rename or delete best weights that a kill left under their first name: whether the latest checkpoint knows them decides.

    Raises:
        CheckpointError: One of the files is damaged.
    """
    following, latest = folder / (BEST + NEXT), folder / LATEST
    if not following.exists():
        return
    known = read(latest, kind="latest", advice=how_to_retrain(folder), mmap=True)["state"]["best_step"] if latest.exists() else 0
    found = read(following, kind="best", advice=how_to_retrain(folder), mmap=True)["state"]["best_step"]
    if found == known:
        os.replace(following, folder / BEST)
    else:
        following.unlink()


def note_rounding(run: Run, before: dict) -> None:
    """Note settings that changed since the last start and affect the last digits of results."""
    changed = [f"{key} was {before.get(key)} and is {value}" for key, value in run.rounding.items() if before.get(key) != value]
    if changed:
        run.state.notes.append(f"after step {run.state.step} {', '.join(changed)}: equal to an uninterrupted run up to rounding")


def restore_hooks(run: Run, saved: list) -> None:
    """Restore the state of every hook, by class name and in order; hooks added since then start fresh."""
    saved = list(saved)
    for hook in run.hooks:
        found = next((entry for entry in saved if entry[0] == type(hook).__name__), None)
        if found is not None:
            saved.remove(found)
            hook.load_state_dict(found[1])


class _Writer:
    """A file for ``torch.save``, which only says at which byte the system refused to write; ``error`` says why."""

    def __init__(self, file: BinaryIO):
        self.file, self.error = file, None
        self.flush = file.flush

    def write(self, data: bytes) -> int:
        """See ``io.BufferedIOBase.write``."""
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = self.error or error
            raise


def write(path: Path, content: dict) -> None:
    """Write a sealed checkpoint atomically.

    Raises:
        DataError: The file cannot be written.
    """

    def fill(temporary: Path) -> None:
        with open(temporary, "wb") as file:  # given a path, torch.save would store the name of the temporary file
            writer = _Writer(file)
            try:
                torch.save(_canonical({key: value for key, value in content.items() if key != "digest"}), writer)
            except RuntimeError as error:  # how torch reports a failed write: 'unexpected pos 704 vs 598'
                raise writer.error or OSError(f"torch could not save it: {first_line(error)}") from error
        seal(temporary)

    write_atomically(path, fill)


def _canonical(value: object) -> object:
    """A copy that shares no list and all equal strings: pickle writes shared objects once, and sharing differs after a restart."""
    if isinstance(value, dict):
        return {_canonical(k): _canonical(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_canonical(v) for v in value)
    return sys.intern(value) if type(value) is str else value
