"""Checkpoints: plain tensors and plain types, written whole or not at all, sealed with a digest, loaded strictly.

``checkpoint_best.pth`` holds the model; ``checkpoint_latest.pth`` also holds what a restart needs to go on bit for bit. Both say what they
were made from: a file of another fold, config, split or data is refused.
Not kept: the data (a checkpoint knows its classes and captions, not its images), compiled code, and timings: equal runs
make equal files.
"""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from clipzoo.engine import work_dir
from clipzoo.engine.state import TrainState
from clipzoo.errors import CheckpointError, DataError
from clipzoo.files import write_atomically
from clipzoo.models.base import Tower
from clipzoo.models.layout.states import differences, not_finite, shapes_of
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


@dataclass(frozen=True)
class BestContent:
    """What every checkpoint holds, by key; ``read`` compares a file with it."""

    format: str
    kind: Literal["best", "latest"]
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


@dataclass(frozen=True)
class LatestContent(BestContent):
    """What a checkpoint to go on from holds besides."""

    optimizer: dict[str, Any]
    scaler: dict[str, Any]
    generators: list[dict]
    hooks: list[list]
    meters: list[dict]
    stop_reason: str | None
    rounding: dict[str, str | int | None]
    raw_model: dict[str, Any] | None = None
    averages: int | None = None


def save_best(run: Run) -> None:
    """Write the model of the best epoch so far. Called by all processes; it is on disk when any of them goes on."""
    content = {**model_content(run), "kind": "best"}
    distributed.from_main(lambda: write(run.folder / BEST, content))


def save_latest(run: Run) -> None:
    """Write everything that a restart needs. Called by all processes: each may hold a part of it.

    It is on disk when any of them goes on: a process that scored the last epoch from a file not yet written would read an earlier one.
    """
    content = model_content(run)
    if run.averaged is not None:
        content.update(raw_model=sharding.model_state(run.model), averages=int(run.averaged.n_averaged))
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
    distributed.from_main(lambda: write(run.folder / LATEST, content))


def model_content(run: Run) -> dict:
    """What every checkpoint holds: weights (the moving average, where there is one), and all that is needed to use them."""
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
    kind: Literal["best", "latest"] | None = None,
    advice: str = "Use another copy of the file",
    mmap: bool = False,
) -> dict:
    """Load a checkpoint with ``weights_only=True``, after every byte of it was compared with its digest.

    Args:
        path: The file.
        device: Target device of its tensors.
        kind: Refuse the other kind: a best checkpoint cannot be continued.
        advice: Last sentence of a message: what to do about a damaged file.
        mmap: Leave tensors in the file until they are used.

    Returns:
        The keys of ``BestContent`` or ``LatestContent``, and ``digest``, that of the file.

    Raises:
        CheckpointError: The file is missing, damaged, was not written by this project, or is not of that kind.
    """
    path = Path(path)
    if not path.exists():
        raise CheckpointError(f"{path}: no such checkpoint")
    try:
        digest = check_seal(path)
        content = torch.load(path, map_location=device, weights_only=True, mmap=mmap or None)
    except DataError as error:
        raise CheckpointError(f"{error}. {advice}") from error
    except Exception as error:  # torch raises many kinds for a broken archive
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].split(". ")[0][:160]
        raise CheckpointError(f"{path}: not a whole checkpoint ({reason}). {advice}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not a checkpoint of this project ({FORMAT})")
    check_content(content, path, advice)
    if kind is not None and content["kind"] != kind:
        raise CheckpointError(f"{path}: is a {content['kind']} checkpoint under the name of a {kind} one. {advice}")
    return {**content, "digest": digest}


def check_content(content: dict, where: object, advice: str) -> None:
    """Refuse keys that are missing, unknown or of another type, in the checkpoint and one level further down.

    Raises:
        CheckpointError: There are some.
    """
    as_record(LatestContent if content.get("kind") == "latest" else BestContent, content, where, advice)
    as_record(TrainState, content["state"], f"{where}: state", advice)
    as_record(Preprocessing, content["preprocessing"], f"{where}: preprocessing", advice)
    for key in ("model", "raw_model"):
        odd = [name for name, value in (content.get(key) or {}).items() if not isinstance(value, torch.Tensor)]
        if odd:
            raise CheckpointError(f"{where}: {key}: '{odd[0]}' is not a tensor. {advice}")


def retrain(folder: Path) -> str:
    """What to do about a damaged or foreign file in the folder of a fold."""
    return f"Delete {folder} to train that fold again"


def begun(folder: Path, provenance: Provenance) -> dict | None:
    """What the model of an earlier start is made from: ``towers`` and ``model`` of a checkpoint in ``folder``, whose tensors
    stay in the file until they are used; ``None`` where there is none.

    A best checkpoint without a latest one counts only where the fold is done and will be scored: a run that was cut off before it could
    be continued starts anew, and not from the weights that its val part chose.

    Raises:
        CheckpointError: The checkpoint is damaged, or is of another fold, config, split or data.
    """
    for name, kind in ((LATEST, "latest"), (BEST, "best")) if work_dir.is_done(folder) else ((LATEST, "latest"),):
        path = folder / name
        if path.exists():
            content = read(path, kind=kind, advice=retrain(folder), mmap=True)
            provenance.check(content["provenance"], path, retrain(folder))
            return {"path": path, **{key: content[key] for key in ("towers", "model")}}
    return None


def load_weights(model: nn.Module, weights: dict[str, torch.Tensor], where: str | Path) -> None:
    """Load ``weights`` strictly.

    Raises:
        CheckpointError: Keys are missing, unexpected or of another shape, which are all listed; or a weight is not finite. The model is
            left as it was.
    """
    problems = differences(shapes_of(weights), shapes_of(model.state_dict()))
    if problems:
        raise CheckpointError(f"{where}: the weights are of another model ({problems}). Use the config it was trained with")
    problem = not_finite(weights)
    if problem:
        raise CheckpointError(f"{where}: {problem}, so every answer would be one. Its training diverged: use another checkpoint")
    sharding.load_model_state(model, weights)


def resume(run: Run) -> bool:
    """Go on from ``checkpoint_latest.pth`` where there is one; say whether there was."""
    path = run.folder / LATEST
    seen = distributed.gathered(path.exists())
    if any(seen) and not all(seen):
        raise CheckpointError(f"{path}: not every process sees it. Several machines need a work dir on a file system that they share")
    if not seen[0]:
        return False
    content = read(path, kind="latest", advice=retrain(run.folder))
    run.provenance.check(content["provenance"], path, retrain(run.folder))
    load_weights(run.model, content.get("raw_model", content["model"]), path)
    before = len(content["generators"])
    if before != run.world_size:
        raise CheckpointError(
            f"{path}: the number of processes was {before} and is {run.world_size}, so the joint batch would be another. "
            f"Start as many as before, or delete {path.parent} to train that fold again"
        )
    if content["precision"] != run.precision:
        raise CheckpointError(
            f"{path}: was trained in {content['precision']}, and runtime.precision='auto' means {run.precision} on this machine. "
            f"Go on where it began, or delete {path.parent} to train that fold again"
        )
    try:
        sharding.load_optimizer_state(run.optimizer, content["optimizer"])
        run.scaler.load_state_dict(content["scaler"])
        run.state = TrainState(**content["state"])
        if run.averaged is not None:
            load_weights(run.averaged.module, content["model"], path)
            run.averaged.n_averaged.fill_(content["averages"])
        restore_hooks(run, content["hooks"])
        run.meter.load_state_dict(content["meters"][distributed.rank()])
        run.stop_reason = content["stop_reason"]
        set_rng_state(content["generators"][distributed.rank()], run.device)
    except (KeyError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path}: does not fit this run ({error}). Delete it to start {run.split.name} again") from error
    note_rounding(run, content["rounding"])
    return True


def note_rounding(run: Run, before: dict) -> None:
    """Remember that something changed since the last start that changes the last digits."""
    changed = [f"{key} was {before.get(key)} and is {value}" for key, value in run.rounding.items() if before.get(key) != value]
    if changed:
        run.state.notes.append(f"after step {run.state.step} {', '.join(changed)}: equal to an uninterrupted run up to rounding")


def restore_hooks(run: Run, saved: list) -> None:
    """Give every hook its state back, by class name and in order; hooks that were added since start fresh."""
    saved = list(saved)
    for hook in run.hooks:
        found = next((entry for entry in saved if entry[0] == type(hook).__name__), None)
        if found is not None:
            saved.remove(found)
            hook.load_state_dict(found[1])


def write(path: Path, content: dict) -> None:
    """Write a checkpoint, sealed. Through an open file: the archive then does not hold the temporary file's name, and equal runs make equal
    files.

    Raises:
        DataError: It cannot be written.
    """

    def fill(temporary: Path) -> None:
        with open(temporary, "wb") as file:
            try:
                torch.save(_canonical({key: value for key, value in content.items() if key != "digest"}), file)
            except RuntimeError as error:  # what torch makes of a failed write: 'unexpected pos 704 vs 598'
                raise OSError(f"torch could not save it: {str(error).splitlines()[0]}") from error
        seal(temporary)

    write_atomically(path, fill)


def _canonical(value: object) -> object:
    """A copy in which no list and every equal string is shared: pickle writes what is shared once, and sharing differs after a restart."""
    if isinstance(value, dict):
        return {_canonical(k): _canonical(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_canonical(v) for v in value)
    return sys.intern(value) if type(value) is str else value
