"""Runs of a second, watched by the hooks under test."""

import io
import logging
from pathlib import Path

import pytest
from tiny import tiny_config, write_pairs

SECTIONS = {"train": {"epochs": 2}, "splits": {"num_folds": 2, "val_fraction": 0.3}}


@pytest.fixture(scope="session")
def pairs(tmp_path_factory) -> Path:
    """36 tiny pictures with captions; read only."""
    return write_pairs(tmp_path_factory.mktemp("pairs"), num_images=36)


@pytest.fixture(scope="session")
def runner_of(class_folders, pairs):
    """``runner_of(folder, hooks, train={...})``: a runner of 24 training, 6 val and 6 test cases, or of pairs; it logs to ``log.txt``."""
    from rich.console import Console

    from clipzoo.config import Config
    from clipzoo.engine import build
    from clipzoo.engine.runner import Runner
    from clipzoo.records.folds import Split

    files = []

    def make(folder: Path, hooks: list, *, kind: str = "classes", val: bool = True, console: Console | None = None, **sections) -> Runner:
        config = tiny_config(class_folders, hooks=hooks, **sections)
        if kind == "pairs":
            config["data"]["dataset"] = {"type": "PairsDataset", "path": str(pairs)}
        config = Config.from_dict(config, "tiny")
        data = build.dataset(config)
        ids = [case.id for case in data.cases]
        watched, scored = ids[2::6], ids[5::6]
        trained = tuple(case_id for case_id in ids if case_id not in {*watched, *scored})
        split = Split("fold_1", train=trained, val=tuple(watched) if val else (), test=tuple(scored))
        folder.mkdir(parents=True, exist_ok=True)
        log = logging.Logger("test")
        files.append(logging.FileHandler(folder / "log.txt", encoding="utf-8"))
        log.addHandler(files[-1])
        console = console or Console(file=io.StringIO())
        runner = Runner(config, data, split, folder / "fold_1", log=log, console=console)
        runner.run.folder.mkdir(exist_ok=True)
        return runner

    yield make
    for file in files:
        file.close()


@pytest.fixture
def trained(config_of, tmp_path, quiet):
    """``trained(hook, 'name')``: a finished cross-validation of two folds in a work dir, and its summary."""

    def train(hook: dict, name: str = "run", **sections) -> tuple:
        from clipzoo.engine.cross_validation import CrossValidation

        config = config_of(hooks=["HistoryHook", hook], **{**SECTIONS, **sections})
        validation = CrossValidation(config, tmp_path / name, console=quiet)
        summary = validation.train()
        validation.call_hooks(summary)
        return tmp_path / name, summary

    return train


class Killed(BaseException):
    """Stands for SIGKILL: nothing is written or called after it."""


@pytest.fixture
def killed_at(monkeypatch):
    """``killed_at(runner, step)``: train until just after the hooks saw that step; then nothing more happens."""
    from clipzoo.engine.state import Run

    def train(runner, step: int) -> None:
        def call(run, moment, *arguments):
            if moment == "after_fit":
                return
            original(run, moment, *arguments)
            if moment == "after_step" and run.state.step == step:
                raise Killed

        original = Run.call
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(Run, "call", call)
            runner.fit()

    return train


@pytest.fixture
def scored_as(monkeypatch):
    """``scored_as(lambda step: 0.5)``: every evaluation in the training finds this balanced accuracy after that step."""
    from clipzoo.engine import loop

    def replace(score) -> None:
        def evaluate(run, part):
            found = original(run, part)
            found.metrics["balanced_accuracy"] = score(run.state.step)
            return found

        original = loop.evaluate
        monkeypatch.setattr(loop, "evaluate", evaluate)

    return replace
