"""Whatever is registered keeps the same small promises; a new class is held to them without a new test."""

import importlib.util
import inspect
import unicodedata

import numpy as np
import pytest
import torch
from tiny_imagenet_layout import write_tiny_imagenet

from clipzoo.config.arguments import rule_of
from clipzoo.errors import BuildError
from clipzoo.hooks.base import MOMENTS
from clipzoo.metrics import RETRIEVAL_DEFAULTS, Metric
from clipzoo.models.losses import ClassificationLoss, LogitLoss, Loss
from clipzoo.records.tables import FindingsTable, RetrievalTable
from clipzoo.registries import DATASETS, HOOKS, LOSSES, METRICS, SAMPLERS, SCHEDULES, SLOTS, TABLES
from clipzoo.structures import Batch, Tokens


def own(registry) -> list[str]:
    """The project's own entries; tests register more while they run."""
    return sorted(name for name in registry if registry.get(name).__module__.startswith("clipzoo."))


ENTRIES = [(table, name) for table, registry in TABLES.items() for name in own(registry)]


@pytest.mark.parametrize(("table", "name"), ENTRIES, ids=lambda value: value)
def test_every_module_says_what_it_is_and_can_be_checked(table, name):
    registry = TABLES[table]
    cls = registry.get(name)
    assert cls.__name__ == name and (inspect.getdoc(cls) or "").strip()
    for key, parameter in inspect.signature(cls).parameters.items():
        assert parameter.annotation is not inspect.Parameter.empty, f"{name}.{key} has no annotation"
        assert parameter.kind is not parameter.VAR_POSITIONAL, f"{name}: *{key} lets a config say anything"
        if parameter.kind is parameter.VAR_KEYWORD:
            assert rule_of(cls) is not None, f"{name}: **{key} lets a config say anything, and no rule checks it"


def test_every_table_has_entries_and_every_slot_a_table():
    assert all(own(registry) for registry in TABLES.values())
    assert set(SLOTS.values()) <= set(TABLES.values())


@pytest.mark.parametrize("name", [name for name in own(METRICS) if METRICS.get(name).kind == "classification"])
def test_metrics_are_better_for_better_predictions(name):
    metric: Metric = METRICS.build(name)
    labels = np.arange(12) % 3
    right = np.full((12, 3), 0.1, dtype=np.float32)
    right[np.arange(12), labels] = 0.8
    good, bad = metric.compute(labels, right), metric.compute(labels, np.roll(right, 1, axis=1))
    assert (good > bad) if metric.greater_is_better else (good < bad)
    assert metric.name == metric.name.lower() and isinstance(metric.greater_is_better, bool)


def retrieval_ranks(ahead: int, positive: float) -> RetrievalTable:
    directions = ["image_to_text"] * 3 + ["text_to_image"] * 3
    numbers = dict(gallery=[20] * 6, ahead=[ahead] * 6, tied=[0] * 6, positives=[1] * 6)
    similarities = dict(positive_similarity=[positive] * 6, negative_similarity=[0.3 - positive] * 6)
    text = dict(direction=directions, query=list("abcdef"), group=[""] * 6, fold=["fold_1"] * 6, best_match=[""] * 6)
    return RetrievalTable.from_columns(**text, **numbers, **similarities)


def test_every_retrieval_metric_is_among_the_defaults():
    assert {spec["type"] for spec in RETRIEVAL_DEFAULTS} == {name for name in own(METRICS) if METRICS.get(name).kind == "retrieval"}


@pytest.mark.parametrize("spec", RETRIEVAL_DEFAULTS, ids=lambda spec: METRICS.build(spec).name)
def test_retrieval_metrics_are_better_for_better_ranks(spec):
    metric: Metric = METRICS.build(spec)
    good, bad = metric.compute(retrieval_ranks(0, 0.8)), metric.compute(retrieval_ranks(15, 0.2))
    assert (good > bad) if metric.greater_is_better else (good < bad)
    assert metric.kind == "retrieval" and metric.name == metric.name.lower() and isinstance(metric.greater_is_better, bool)
    one_missing = retrieval_ranks(0, 0.8)
    one_missing.positive_similarity[[1, 4]] = np.nan
    assert np.isnan(metric.compute(one_missing)) and np.isnan(metric.compute(one_missing.take(slice(0, 0))))


@pytest.mark.parametrize("name", [name for name in own(METRICS) if METRICS.get(name).kind == "findings"])
def test_metrics_of_findings_are_better_for_better_predictions_and_leave_out_the_unknown(name):
    metric: Metric = METRICS.build(name)
    truth = np.array([[1, 0], [0, 1], [1, 1], [0, 0], [-1, 0], [1, -1]], dtype=np.int8)
    right = np.where(truth == 1, 0.8, 0.3).astype(np.float32)

    def table(probabilities):
        return FindingsTable(("a", "b"), tuple("uvwxyz"), ("",) * 6, ("fold_1",) * 6, truth, probabilities)

    good, bad = metric.compute(table(right)), metric.compute(table(1 - right))
    assert (good > bad) if metric.greater_is_better else (good < bad)
    other = np.where(truth < 0, 0.99, right).astype(np.float32)
    other[4, 0] = np.nan
    assert metric.compute(table(other)) == good
    assert metric.name == metric.name.lower()
    right[0, 0] = np.nan
    assert np.isnan(metric.compute(table(right)))


@pytest.mark.parametrize("name", own(SCHEDULES))
def test_schedules_are_pure_functions_between_0_and_1(name):
    schedule = SCHEDULES.build(
        {"type": name, "milestones": [1, 2]} if "milestones" in inspect.signature(SCHEDULES.get(name)).parameters else name
    )
    values = [schedule.factor(step, 30, 10) for step in range(30)]
    assert values == [schedule.factor(step, 30, 10) for step in range(30)] and all(0 <= v <= 1 for v in values) and values[0] > 0


@pytest.mark.parametrize("name", own(SAMPLERS))
def test_samplers_are_pure_functions_of_seed_and_epoch(name):
    sampler = SAMPLERS.build(name)
    labels = np.array([0] * 20 + [1] * 5)
    first = np.asarray(sampler.order(labels, 0, 7))
    assert len(first) == len(labels) and set(first) <= set(range(25))
    np.testing.assert_array_equal(first, sampler.order(labels, 0, 7))
    assert not np.array_equal(first, sampler.order(labels, 1, 7)) and not np.array_equal(first, sampler.order(labels, 0, 8))


@pytest.mark.parametrize("name", [name for name in own(LOSSES) if issubclass(LOSSES.get(name), Loss)])
def test_losses_are_finite_scalars_with_gradients_for_both_towers(name):
    torch.manual_seed(0)
    loss = LOSSES.build(name)
    captions = torch.tensor([0, 1, 2, 0, 1])
    image = torch.nn.functional.normalize(torch.randn(5, 8), dim=-1).requires_grad_()
    text = torch.nn.functional.normalize(torch.randn(3, 8), dim=-1).requires_grad_()
    scale = torch.tensor(10.0, requires_grad=True)
    batch = Batch(
        images=torch.zeros(5, 3, 2, 2), labels=captions, cases=torch.arange(5),
        text=Tokens(torch.ones(3, 2, dtype=torch.long), torch.full((3,), 2)), caption=captions,
        caption_ids=torch.arange(3), caption_labels=torch.arange(3), positive_ids=captions[:, None],
        findings=torch.nn.functional.one_hot(captions).float(),
    )  # fmt: skip
    value = loss(image, text, scale, batch)
    value.backward()
    assert value.shape == () and torch.isfinite(value)
    for tensor in (image, text, scale):
        assert tensor.grad is not None and torch.isfinite(tensor.grad).all() and tensor.grad.abs().sum() > 0


@pytest.mark.parametrize("name", [name for name in own(LOSSES) if not issubclass(LOSSES.get(name), Loss)])
def test_other_losses_are_over_logits(name):
    loss = LOSSES.build(name)
    assert isinstance(loss, LogitLoss) and loss.name == loss.name.lower() and not loss.balances
    assert loss.multi_label != isinstance(loss, ClassificationLoss)
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    labels = torch.tensor([0, 1, -1, 2, 1])
    findings = torch.tensor([[1, 0, -1], [0, 1, 1], [-1, -1, -1], [0, 0, 1], [1, -1, 0]]).float()
    batch = Batch(images=torch.zeros(5, 0), labels=labels, cases=torch.arange(5), findings=findings)
    value = loss(logits, loss.target(batch))
    assert 0 <= loss.accuracy(logits, batch) <= 1
    value.backward()
    assert value.shape == () and torch.isfinite(value) and torch.isfinite(logits.grad).all()
    assert ((logits.grad.abs().sum(dim=1) > 0) == torch.tensor([True, True, False, True, True])).all()


@pytest.fixture(scope="module")
def sources(tmp_path_factory, class_folders):
    """For every dataset, arguments that make a small one."""
    from clipzoo.datasets.samples.sample_data import create_sample_dataset
    from clipzoo.datasets.shards.write import Sample, write_shards

    pairs = create_sample_dataset(tmp_path_factory.mktemp("sources") / "pairs", "pairs", 6)
    table = tmp_path_factory.mktemp("table") / "labels.csv"
    rows = [f"{path},{path.parent.name}" for path in sorted(class_folders.rglob("*.png"))]
    table.write_text("\n".join(["path,label", *rows]), encoding="utf-8")
    tiny = write_tiny_imagenet(tmp_path_factory.mktemp("tiny"), train=1, val=1, test=1)
    shards = tmp_path_factory.mktemp("shards") / "new"
    images = sorted(class_folders.rglob("*.png"))
    write_shards(shards, [Sample(str(image), str(image), [f"一张 {image.stem}"]) for image in images], 4)
    return {
        "ImageFolderDataset": {"root": str(class_folders)},
        "PairsDataset": {"path": str(pairs)},
        "ShardPairs": {"shards": str(shards)},
        "TableDataset": {"path": str(table)},
        "TinyImageNetDataset": {"root": str(tiny), "split": "trainval", "num_classes": 6},
    }


@pytest.mark.parametrize("name", own(DATASETS))
def test_datasets_are_sorted_cases_with_images_and_captions(name, sources):
    data = DATASETS.build({"type": name, **sources[name]})
    ids = [case.id for case in data.cases]
    assert ids == sorted(set(ids)) and len(data) == len(ids) and [data.rows[i] for i in ids] == list(range(len(ids)))
    for row, case in enumerate(data.cases):
        assert case.id == unicodedata.normalize("NFC", case.id).replace("\\", "/") and case.group
        assert case.label is None or 0 <= case.label < len(data.classes)
        assert data.labels[row] == (-1 if case.label is None else case.label)
        assert data.captions_of(row) and set(data.captions_of(row)) <= set(range(len(data.captions)))
    assert len(data.class_captions()) == len(data.classes)
    assert data.read_image(0).mode == "RGB" and str(data.path_of(0)).endswith(ids[0])
    assert data.describe()[0].startswith(name) and all(isinstance(line, str) for line in data.describe())
    assert DATASETS.build({"type": name, **sources[name]}).cases == data.cases


@pytest.mark.parametrize("name", own(HOOKS))
def test_hooks_have_every_moment_and_plain_states(name):
    package = getattr(HOOKS.get(name), "package", None)  # of a tracker
    if package is not None and importlib.util.find_spec(package) is None:
        with pytest.raises(BuildError, match=f"Run pip install {package}$"):
            HOOKS.build(name)
        pytest.skip(f"requires {package}")
    hook = HOOKS.build(name)
    assert all(callable(getattr(hook, moment)) for moment in MOMENTS)
    hook.load_state_dict(hook.state_dict() or {})
