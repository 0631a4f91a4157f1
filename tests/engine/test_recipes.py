"""Training recipes: steps instead of epochs, large batches in small memory, moving averages, retrieval where there are no classes."""

import json
import math

import pytest
import torch
from tiny import write_pairs

from clipzoo.config import Config
from clipzoo.engine import build, checkpoint, loop
from clipzoo.engine.cross_validation import CrossValidation
from clipzoo.engine.loop import Interrupted
from clipzoo.engine.runner import Runner
from clipzoo.engine.steps.grad_cache import resting_statistics
from clipzoo.errors import BuildError, ConfigError, DataError
from clipzoo.hooks import Hook
from clipzoo.inference.rescoring import score_again, score_external
from clipzoo.models.clip import in_batch_measures
from clipzoo.records.folds import Split
from clipzoo.records.tables import RetrievalTable, read_table
from clipzoo.registries import HOOKS
from clipzoo.runtime.log import make_log

BERT = {"type": "BERT", "pretrained": False, "pooling": "mean", "hidden_size": 32, "num_layers": 1, "num_heads": 2}
# Without batch norm and dropout, a batch cut into pieces has the same features.
VIT = {"type": "TimmBackbone", "name": "test_vit", "image_size": 32}
STEADY = {"image_encoder": VIT, "text_encoder": {**BERT, "dropout": 0.0}}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return write_pairs(tmp_path_factory.mktemp("pairs"))


@pytest.fixture
def pairs_config(config_of, pairs):
    """The tiny config on pairs, one holdout split."""

    def make(**sections):
        config = dict(config_of(**sections).plain())
        config["splits"] = {"type": "Holdout", "val_fraction": 0.25}
        config["data"] = {**config["data"], "dataset": {"type": "PairsDataset", "path": str(pairs)}}
        return Config.from_dict(config, "pairs")

    return make


@pytest.fixture
def make_run(config_of, tmp_path, quiet):
    """A run on 24 cases that are trained on and scored."""

    def make(folder="run", val=(), **sections):
        config = config_of(hooks=[], **sections)
        data = build.dataset(config)
        ids = tuple(case.id for case in data.cases[:24])
        split = Split("fold_1", train=ids, val=tuple(c.id for c in data.cases[24:]) if val else (), test=ids[:6])
        return Runner(config, data, split, tmp_path / folder, log=make_log(quiet, None), console=quiet).run

    return make


def gradients_of(run, num_batches: int) -> dict[str, torch.Tensor]:
    """Gradients of the first step, which is not made."""
    run.optimizer.step = lambda *_: None
    run.parallel.train()
    run.batches.set_epoch(0)
    loop.step(run, [batch for batch, _ in zip(run.train_loader, range(num_batches), strict=False)])
    return {name: p.grad.clone() for name, p in run.model.named_parameters() if p.grad is not None}


LOSSES_OVER_PAIRS = ["ContrastiveLoss", "MultiPositiveContrastiveLoss", "SigmoidContrastiveLoss"]


@pytest.mark.parametrize("loss", LOSSES_OVER_PAIRS)
def test_grad_cache_gives_the_gradient_of_the_whole_batch(make_run, loss):
    sections = {"model": {**STEADY, "loss": {"type": loss}}, "train": {"clip_grad": None}}
    whole = gradients_of(make_run(**sections, data={"batch_size": 24, "augmentation": "none"}), 1)
    cached = {**sections, "train": {"clip_grad": None, "accumulation": 3, "grad_cache": True}}
    pieces = gradients_of(make_run(**cached, data={"batch_size": 8, "augmentation": "none"}), 3)
    plain = {**sections, "train": {"clip_grad": None, "accumulation": 3}}
    averaged = gradients_of(make_run(**plain, data={"batch_size": 8, "augmentation": "none"}), 3)
    assert set(whole) == set(pieces) and "logit_scale" in whole and len(whole) > 20
    for name, gradient in whole.items():
        torch.testing.assert_close(pieces[name], gradient, rtol=1e-3, atol=1e-6, msg=name)
    if loss == "SigmoidContrastiveLoss":
        return  # it compares a case with captions only, and every piece of this data holds all three
    assert any(not torch.allclose(averaged[name], whole[name], rtol=1e-2, atol=1e-7) for name in whole), "averaging adds no negatives"


def test_the_second_pass_sees_the_same_dropout_and_counts_batch_statistics_once(make_run):
    text = {**BERT, "dropout": 0.5}
    train = {"accumulation": 3, "grad_cache": True}
    run = make_run(model={"text_encoder": text}, train=train, data={"batch_size": 8, "augmentation": "none"})
    seen = []
    original = run.model.encode
    norm = next(m for m in run.model.modules() if isinstance(m, torch.nn.BatchNorm2d))
    before = int(norm.num_batches_tracked)
    run.model.encode = lambda batch: remember(seen, original(batch))
    gradients_of(run, 3)
    first, second = seen[:3], seen[3:]
    assert len(second) == 3
    for a, b in zip(first, second, strict=True):
        for x, y in zip(a, b, strict=True):
            torch.testing.assert_close(x, y, rtol=0, atol=1e-6)
    assert int(norm.num_batches_tracked) - before == 3


def remember(seen: list, features: tuple) -> tuple:
    seen.append([feature.detach().clone() for feature in features])
    return features


def test_resting_statistics_are_restored_and_only_they():
    norm = torch.nn.BatchNorm1d(3).train()
    with resting_statistics(norm):
        normalised = norm(torch.randn(8, 3) + 5)
    assert abs(float(normalised.mean().detach())) < 1e-5, "the batch itself is normalised by its own statistics"
    assert torch.equal(norm.running_mean, torch.zeros(3)) and int(norm.num_batches_tracked) == 0


def test_grad_cache_needs_a_loss_over_the_batch(make_run):
    sections = {"train": {"accumulation": 2, "grad_cache": True}}
    with pytest.raises(BuildError, match="compares with all captions anyway"):
        make_run(model={"loss": {"type": "CaptionCrossEntropyLoss"}}, **sections)
    with pytest.raises(ConfigError, match="train.grad_cache: has no effect with train.accumulation=1"):
        make_run(train={"grad_cache": True})


def test_recomputed_activations_change_no_gradient(make_run):
    sections = {"model": STEADY, "data": {"augmentation": "none"}}
    plain = gradients_of(make_run(**sections), 1)
    again = gradients_of(make_run(**sections, train={"gradient_checkpointing": True}), 1)
    assert plain.keys() == again.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(again[name], gradient, rtol=1e-4, atol=1e-7, msg=name)


def test_the_moving_average_is_the_one_of_its_definition(make_run):
    decay = 0.9
    run = make_run(train={"epochs": 4, "ema_decay": decay, "live_vocabulary": False})
    average, n = None, 0

    def follow(model):
        nonlocal average, n
        original(model)
        weights = {name: p.detach().clone() for name, p in model.named_parameters()}
        if average is None:
            average = weights
        else:
            now = min(decay, (1 + n) / (10 + n))
            average = {name: now * average[name] + (1 - now) * weights[name] for name in weights}
        n += 1

    original = run.averaged.update_parameters
    run.averaged.update_parameters = follow
    run.folder.mkdir()
    loop.fit(run)
    assert n == run.state.step == 12
    kept = checkpoint.read(run.folder / checkpoint.LATEST)
    for name, parameter in run.averaged.module.named_parameters():
        torch.testing.assert_close(parameter, average[name], rtol=1e-4, atol=1e-6)
        assert torch.equal(kept["model"][name], parameter.detach()), "what is scored is the average"
        assert torch.equal(kept["raw_model"][name], run.model.get_parameter(name).detach())
    norms = [(run.averaged.module.get_buffer(n), b) for n, b in run.model.named_buffers() if n.endswith("running_mean")]
    assert norms and all(torch.equal(a, b) for a, b in norms)


STEPS = {"epochs": 100, "steps": 7, "ema_decay": 0.9}


def test_steps_count_instead_of_epochs_and_evaluations_come_between_them(make_run):
    seen = []

    class Watch(Hook):
        def after_eval(self, run):
            seen.append((run.state.step, run.state.epoch, run.state.batch))

    run = make_run(val=True, train=STEPS, evaluation={"every_steps": 2})
    run.hooks = [Watch()]
    run.folder.mkdir()
    loop.fit(run)
    assert run.total_epochs == 3 and run.state.step == 7 and run.state.epoch == 3
    assert [step for step, _, _ in seen] == [2, 4, 6, 7], "and the last step always"
    assert run.state.best_step in (2, 4, 6, 7) and run.state.best_epoch == math.ceil(run.state.best_step / 3)


def test_a_hook_that_stops_in_the_middle_of_an_epoch_stops_there(make_run):
    class Stop(Hook):
        def after_eval(self, run):
            run.stop("enough")

    run = make_run(val=True, train={"epochs": 5}, evaluation={"every_steps": 2})
    run.hooks = [Stop()]
    run.folder.mkdir()
    loop.fit(run)
    assert run.state.step == 2 and checkpoint.read(run.folder / checkpoint.LATEST)["stop_reason"] == "enough"


@pytest.mark.slow
@pytest.mark.parametrize("steps", [4, *(pytest.param(other, marks=pytest.mark.slow) for other in (1, 2, 6))])
def test_a_run_in_steps_that_was_stopped_goes_on_bit_for_bit(config_of, tmp_path, quiet, stopped_at, steps):
    """Three steps per epoch; evaluated after 2, 4, 6 and 7: stopped before, at and after an evaluation, and at the end of an epoch."""
    config = config_of(train=STEPS, evaluation={"every_steps": 2}, hooks=[{"type": "HistoryHook"}])

    CrossValidation(config, tmp_path / "whole", console=quiet).train(fold=1)
    with stopped_at(steps):
        CrossValidation(config, tmp_path / "stopped", console=quiet).train(fold=1)
    CrossValidation(config, tmp_path / "stopped", console=quiet).train(fold=1)
    for name in ("checkpoint_latest.pth", "checkpoint_best.pth", "history.json", "predictions.csv"):
        whole, stopped = ((tmp_path / run / "fold_1" / name).read_bytes() for run in ("whole", "stopped"))
        assert whole == stopped, name


def test_checkpoints_are_written_when_they_are_due(make_run, monkeypatch):
    written = []
    monkeypatch.setattr(checkpoint, "save_latest", lambda run, background=False: written.append((run.state.epoch, run.state.batch)))
    run = make_run(train={"epochs": 5}, runtime={"save_every": 2, "save_every_steps": 2})
    loop.fit(run)
    assert [w for w in written if w[1] == 0] == [(2, 0), (4, 0), (5, 0)], "every second epoch, and the end"
    assert [w for w in written if w[1]] == [(0, 2), (1, 1), (2, 2), (3, 1), (4, 2)], "and steps 2, 4, 8, 10, 14, if no epoch ends there"


def test_in_batch_measures_are_no_loss_and_say_what_they_say(make_run):
    plain = make_run()
    gradients = gradients_of(plain, 1)
    measured = make_run(model={"in_batch_measures": True})
    for name, gradient in gradients_of(measured, 1).items():
        assert torch.equal(gradient, gradients[name]), name
    means = measured.meter.means()
    assert set(means) == {"loss", "in_batch_accuracy", "in_batch_similarity"} and means["loss"] == plain.meter.means()["loss"]
    batch = next(iter(measured.train_loader))
    generator = torch.Generator().manual_seed(0)
    image, text = (torch.nn.functional.normalize(torch.randn(n, 5, generator=generator), dim=1) for n in (len(batch), len(batch.text)))
    found = in_batch_measures(image, text, torch.tensor(3.0), batch)
    hits, shares = [], []
    for i in range(len(batch)):
        logits = [3.0 * float(image[i] @ text[u]) for u in range(len(text))]
        right = [bool((batch.positive_ids[i] == batch.caption_ids[u]).any()) for u in range(len(text))]
        hits.append(right[max(range(len(text)), key=logits.__getitem__)])
        total = sum(math.exp(value) for value in logits)
        shares.append(sum(math.exp(value) / total for value, is_right in zip(logits, right, strict=True) if is_right))
    assert float(found["in_batch_accuracy"]) == pytest.approx(sum(hits) / len(hits))
    assert float(found["in_batch_similarity"]) == pytest.approx(sum(shares) / len(shares), rel=1e-5)


def test_pairs_are_scored_by_retrieval_and_scored_again_and_elsewhere(pairs_config, tmp_path, quiet):
    config = pairs_config(train={"epochs": 2}, model={"in_batch_measures": True})
    validation = CrossValidation(config, tmp_path / "run", console=quiet)
    summary = validation.train()
    table = RetrievalTable.read(tmp_path / "run" / "oof_predictions.csv")
    assert list(table.case_ids) == list(validation.folds.splits[0].test)
    assert set(summary.pooled) >= {"i2t_r1", "t2i_r10", "rsum", "similarity_gap"} and summary.classes == [] and summary.confusion == []
    first = table.take(table.direction == "image_to_text")
    assert summary.pooled["i2t_mean_rank"] == pytest.approx((1 + first.ahead + first.tied / (first.positives + 1)).mean())
    assert "rsum" in summary.tables()
    epochs = json.loads((tmp_path / "run" / "fold_1" / "history.json").read_text(encoding="utf-8"))
    assert {"loss", "in_batch_accuracy", "val_rsum"} <= set(epochs[-1])
    agreement = score_again(validation, make_log(quiet, None))
    assert agreement.holds and agreement.rows == len(table)
    other = write_pairs(tmp_path / "other", num_images=9, seed=5)
    external = score_external(config, tmp_path / "run", str(other), make_log(quiet, None))
    assert external.metrics["i2t_r10"] == 1 and len(external.tables["predictions_fold_1.csv"].case_ids) == 9


def test_pairs_need_a_loss_over_pairs_and_more_than_one(pairs_config, tmp_path, quiet):
    with pytest.raises(ConfigError, match="compares with the captions of all classes, but PairsDataset has captions and no classes"):
        CrossValidation(pairs_config(model={"loss": {"type": "CaptionCrossEntropyLoss"}}), tmp_path / "run", console=quiet).train()
    config = pairs_config()
    data = build.dataset(config)
    ids = tuple(case.id for case in data.cases)
    with pytest.raises(ConfigError, match="fold_1: there is a single training case and nothing to contrast it with"):
        Runner(
            config, data, Split("fold_1", train=ids[:1], val=(), test=ids[1:]), tmp_path / "run", log=make_log(quiet, None), console=quiet
        )
    assert not (tmp_path / "run").exists()


def test_other_pairs_are_read_by_usual_names_or_by_the_configs_own(pairs_config, tmp_path, pairs):
    """The training table's columns say nothing about another file's, and its image root must not lead back to the training images."""
    from clipzoo.inference.rescoring import external_cases
    from clipzoo.records.folds import Folds

    config = pairs_config().plain()
    own = {"image_key": "bild", "caption_key": "text", "separator": "semicolon", "image_root": str(pairs)}
    config["data"] = {**config["data"], "dataset": {**config["data"]["dataset"], **own}}
    config = Config.from_dict(config, "pairs")
    folds = Folds(cases=(), classes=(), splits=(), spec={})
    other = write_pairs(tmp_path / "other", num_images=5, seed=9)
    found = external_cases(config, folds, str(other))
    assert len(found) == 5 and all(str(found.path_of(row)).startswith(str(other.resolve())) for row in range(5))
    (other / "own.csv").write_text("bild,text\nimages/000.png,一\nimages/001.png,二\n", encoding="utf-8")
    assert len(external_cases(config, folds, str(other / "own.csv"))) == 2
    with pytest.raises(DataError, match="no such file"):
        external_cases(config, folds, str(other / "none.csv"))


def test_a_sampler_that_needs_classes_is_refused_before_there_is_a_work_dir(pairs_config, tmp_path, quiet):
    config = pairs_config(data={"sampler": {"type": "WeightedSampler"}})
    with pytest.raises(DataError, match="WeightedSampler: the dataset has cases without a class"):
        CrossValidation(config, tmp_path / "run", console=quiet).train()
    assert not (tmp_path / "run").exists()


def test_metrics_of_the_other_kind_are_refused(pairs_config, config_of, tmp_path, quiet):
    with pytest.raises(ConfigError, match="'?accuracy'? cannot be computed here: PairsDataset has captions and no classes"):
        CrossValidation(pairs_config(evaluation={"metrics": ["Accuracy"], "select": "accuracy"}), tmp_path / "run", console=quiet)
    with pytest.raises(ConfigError, match="'?rsum'? cannot be computed here: ImageFolderDataset has classes"):
        CrossValidation(config_of(evaluation={"metrics": ["RSum"], "select": "rsum"}), tmp_path / "run", console=quiet)


def test_a_hook_sees_the_scored_test_part(config_of, tmp_path, quiet):
    seen = []

    class AfterTest(Hook):
        def after_test(self, run, evaluation, result):
            seen.append((evaluation.part, len(evaluation.table.case_ids), result.metrics))

    HOOKS.register_module()(AfterTest)
    try:
        CrossValidation(config_of(train={"epochs": 1}, hooks=["AfterTest"]), tmp_path / "run", console=quiet).train(fold=1)
    finally:
        del HOOKS._classes["AfterTest"]
    assert [(part, count) for part, count, _ in seen] == [("test", 12)] and 0 <= seen[0][2]["accuracy"] <= 1


@pytest.mark.slow
def test_a_frozen_tower_of_published_weights_is_read_with_them_after_a_stop(config_of, tmp_path, quiet, monkeypatch):
    """A run that goes on makes its towers from the checkpoint, without the folder they came from; what is read once must be its own."""
    from transformers import BertConfig, BertModel, BertTokenizer

    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64, "vocab_size": 8}
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "方", "圆", "条"]
    (tmp_path / "vocab.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    BertModel(BertConfig(**sizes, initializer_range=0.5)).save_pretrained(tmp_path / "bert")
    BertTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path / "bert")
    config = config_of(model={"text_encoder": {"type": "BERT", "name": str(tmp_path / "bert"), "freeze": "all"}})

    def first_step_then_signal(run, group):
        original(run, group)
        run.interrupt.signal = 15

    original = loop.step
    CrossValidation(config, tmp_path / "whole", console=quiet).train(fold=1)
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(loop, "step", first_step_then_signal)
        CrossValidation(config, tmp_path / "stopped", console=quiet).train(fold=1)
    (tmp_path / "bert").rename(tmp_path / "elsewhere")
    CrossValidation(config, tmp_path / "stopped", console=quiet).train(fold=1)
    for name in ("checkpoint_latest.pth", "checkpoint_best.pth", "history.json", "predictions.csv"):
        whole, stopped = ((tmp_path / run / "fold_1" / name).read_bytes() for run in ("whole", "stopped"))
        assert whole == stopped, name
    validation, fold = CrossValidation(config, tmp_path / "whole", console=quiet), tmp_path / "whole" / "fold_1"
    again, _ = validation.runner(validation.folds.splits[0], make_log(quiet, None)).test()
    assert again.table.probabilities == pytest.approx(read_table(fold / "predictions.csv").probabilities, abs=1e-6)
