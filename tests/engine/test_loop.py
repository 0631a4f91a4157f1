"""The loop's promises: it learns, accumulates with the right division, stops at a loss that is not finite, and remembers a golden run."""

import json
import math
from pathlib import Path

import pytest
import torch

from clipzoo.config import Config
from clipzoo.engine import build, loop
from clipzoo.engine.cross_validation import CrossValidation
from clipzoo.engine.dry_run import dry_run
from clipzoo.engine.runner import Runner
from clipzoo.errors import RegistryError, TrainingError
from clipzoo.hooks import EarlyStoppingHook, Hook
from clipzoo.records.folds import Split
from clipzoo.registries import LOSSES
from clipzoo.runtime.log import make_log

# Losses of 30 steps of `golden_losses` below, recorded with torch 2.14.1 on an x86-64 CPU, one thread.
GOLDEN = Path(__file__).with_name("golden_losses.txt")


@pytest.fixture
def make_run(config_of, tmp_path, quiet):
    """A run on 32 cases that are trained on and scored."""

    def make(num_cases: int = 32, **sections):
        config = config_of(**sections)
        data = build.dataset(config)
        ids = tuple(case.id for case in data.cases[:num_cases])
        split = Split("fold_1", train=ids, val=(), test=ids)
        return Runner(config, data, split, tmp_path / "run", log=make_log(quiet, None), console=quiet)

    return make


@pytest.mark.slow
def test_it_learns_32_cases(make_run):
    runner = make_run(train={"epochs": 25}, data={"augmentation": "none", "batch_size": 16}, hooks=[])
    runner.fit()
    evaluation, scored = runner.test()
    assert evaluation.metrics["accuracy"] > 0.95
    assert (scored.name, scored.epoch, scored.step) == ("checkpoint_latest.pth", 25, 50), "without a val part the last epoch is scored"


def losses_of(run, steps: int) -> list[float]:
    run.parallel.train()
    losses = []
    while len(losses) < steps:
        run.batches.set_epoch(run.state.epoch)
        for batch in run.train_loader:
            run.meter.reset()
            loop.set_learning_rate(run)
            loop.step(run, [batch])
            run.state.step += 1
            losses.append(run.meter.means()["loss"])
        run.state.epoch += 1
    return losses[:steps]


def test_thirty_steps_give_the_recorded_losses(make_run):
    """A refactoring leaves these alone; a change that means to alter training records them anew and says so.

    The learning rate is low on purpose: at 3e-3 the rounding of the last digit grows to a tenth of the loss within thirty steps.
    """
    found = losses_of(make_run(hooks=[], train={"epochs": 8}, optimizer={"type": "AdamW", "lr": 1e-4}).run, 30)
    recorded = [float(line) for line in GOLDEN.read_text().split()]
    torch.testing.assert_close(torch.tensor(found), torch.tensor(recorded), rtol=1e-4, atol=1e-4)


def gradients(run, groups: list) -> dict[str, torch.Tensor]:
    run.model.eval()  # without dropout and batch statistics, a batch's gradient is the mean over its cases where the loss is
    run.optimizer.step = lambda *_: None
    run.optimizer.zero_grad = lambda set_to_none=True: None
    for parameter in run.model.parameters():
        parameter.grad = None
    loop.step(run, groups)
    return {name: p.grad.clone() for name, p in run.model.named_parameters() if p.grad is not None}


def test_accumulation_weighs_every_case_the_same(make_run):
    """Cross entropy over all class captions is a mean over cases, so any cut into batches gives one gradient."""
    sections = {"model": {"loss": {"type": "CaptionCrossEntropyLoss"}}, "train": {"clip_grad": None}, "data": {"augmentation": "none"}}
    run = make_run(num_cases=20, **sections).run  # batches of 8, 8 and 4
    batches = list(run.train_loader)
    assert [len(b) for b in batches] == [8, 8, 4]
    whole = make_run(num_cases=20, **{**sections, "data": {"augmentation": "none", "batch_size": 20}}).run
    accumulated, at_once = gradients(run, batches), gradients(whole, list(whole.train_loader))
    assert set(accumulated) == set(at_once) and len(accumulated) > 20
    for name, gradient in at_once.items():
        torch.testing.assert_close(accumulated[name], gradient, rtol=1e-3, atol=1e-5, msg=name)


def test_a_short_last_group_is_a_step_too(make_run):
    run = make_run(train={"epochs": 2, "accumulation": 3}, hooks=[]).run  # 4 batches: groups of 3 and 1
    assert run.steps_per_epoch == 2 and run.total_steps == 4
    loop.fit(run)
    assert run.state.step == 4


@LOSSES.register_module()
class SpoiledLoss(torch.nn.Module):
    """Turns NaN at its fifth call."""

    captions = "batch"

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, image_BD, text_UD, logit_scale, batch):
        self.calls += 1
        return (image_BD.sum() + text_UD.sum()) * (math.nan if self.calls == 5 else 1.0)


@pytest.mark.parametrize("log_every", [1, 20])
def test_a_loss_that_is_not_finite_stops_with_step_and_losses(make_run, log_every):
    runner = make_run(
        model={"loss": {"type": "SpoiledLoss"}}, runtime={"device": "cpu", "log_every": log_every}, hooks=[], train={"epochs": 3}
    )
    with pytest.raises(TrainingError, match=r"fold_1: the loss is not finite at step 5 \(epoch 2\): image_text = nan"):
        runner.fit()
    assert (runner.run.folder / "checkpoint_latest.pth").exists(), "the first epoch's checkpoint is kept"


def test_out_of_memory_says_what_to_lower(make_run, config_of, tmp_path, quiet, monkeypatch):
    runner = make_run(hooks=[])

    def explode(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(loop, "step", explode)
    with pytest.raises(TrainingError, match=r"ran out of memory at step 1. Lower data.batch_size \(now 8\).*image_size \(now 32\)"):
        runner.fit()
    with pytest.raises(TrainingError, match="ran out of memory at step 1. Lower data.batch_size"):
        dry_run(CrossValidation(config_of(), tmp_path / "dry", console=quiet))


def test_splits_may_be_a_mere_name(config_of):
    config = Config.from_dict({**config_of().plain(), "splits": "Holdout"})
    assert build.watched_part(config, Split("fold_1", ("a",), (), ("b",))) is None


def test_hooks_hear_five_moments_in_order_and_the_end(make_run):
    heard = []

    class Listener(Hook):
        def before_fit(self, run):
            heard.append("before_fit")

        def after_step(self, run):
            heard.append("after_step")

        def after_epoch(self, run):
            heard.append("after_epoch")

        def after_fit(self, run, error):
            heard.append(("after_fit", error))

    run = make_run(train={"epochs": 1}).run
    run.hooks = [Listener()]
    loop.fit(run)
    assert heard == ["before_fit", *["after_step"] * 4, "after_epoch", ("after_fit", None)]


def test_a_method_that_only_looks_like_a_moment_is_an_error():
    with pytest.raises(RegistryError, match="unknown moment 'after_step_end'. Did you mean 'after_step'"):

        class Wrong(Hook):
            def after_step_end(self, run):
                pass


def test_early_stopping_waits_for_patience_evaluations(config_of, tmp_path, quiet):
    hooks = [{"type": "EarlyStoppingHook", "patience": 2}, {"type": "HistoryHook"}]
    config = config_of(train={"epochs": 30}, hooks=hooks, optimizer={"lr": 1e-8})  # nothing improves after the first epochs
    validation = CrossValidation(config, tmp_path / "run", console=quiet)
    validation.train(fold=1)
    from clipzoo.records.results import FoldResult

    result = FoldResult.read(tmp_path / "run" / "fold_1")
    history = json.loads((tmp_path / "run" / "fold_1" / "history.json").read_text(encoding="utf-8"))
    scores = [row["val_balanced_accuracy"] for row in history]
    assert 2 < len(scores) == result.epochs_trained < 30
    assert max(scores[-2:]) <= max(scores[:-2]), "equal values do not restart the patience, although they may move the best epoch"
    assert all(max(scores[k - 1 : k + 1]) > max(scores[: k - 1]) for k in range(2, len(scores) - 1)), "and it does not stop too early"


def test_early_stopping_survives_a_restart():
    hook = EarlyStoppingHook(patience=3)
    hook.best, hook.waited = 0.7, 2
    again = EarlyStoppingHook(patience=3)
    again.load_state_dict(hook.state_dict())
    assert (again.best, again.waited) == (0.7, 2)


def test_two_runs_in_one_process_share_nothing(make_run, config_of, tmp_path, quiet):
    """Interleaved with another run, a run gives the losses it gives alone (each is seeded when it is built)."""
    alone = losses_of(make_run(hooks=[], model={"text_encoder": {"type": "BERT", "pretrained": False, "hidden_size": 16, "num_layers": 1,
                                                                 "num_heads": 1, "dropout": 0.0}}).run, 4)  # fmt: skip
    text = {"type": "BERT", "pretrained": False, "hidden_size": 16, "num_layers": 1, "num_heads": 1, "dropout": 0.0}
    first, second = (
        make_run(hooks=[], model={"text_encoder": text}).run,
        make_run(hooks=[], model={"text_encoder": text, "embed_dim": 8}).run,
    )
    assert first.log is not second.log and first.optimizer is not second.optimizer
    assert losses_of(second, 4) != alone
    assert losses_of(first, 4) == alone


def test_a_signal_that_comes_while_processes_ask_each_other_is_not_lost(make_run, monkeypatch):
    run = make_run(hooks=[]).run
    monkeypatch.setattr(loop.distributed, "world_size", lambda: 2)

    def gathered(value):
        run.interrupt.signal = run.interrupt.signal or 15  # comes after this process has said its own
        return [value, None]

    monkeypatch.setattr(loop.distributed, "gathered", gathered)
    assert not loop.asked_to_end(run), "nobody had heard of it when all were asked"
    assert loop.asked_to_end(run) and run.interrupt.signal == 15
