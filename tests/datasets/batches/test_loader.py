"""How an epoch is cut into batches, by one process and by several, with every sampler, on many small datasets at random. And what makes
worker processes possible: parts that can be sent to them, and commands that may be imported again by them.
"""

import ast
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from contextlib import closing

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import data_of

from clipzoo.config import Config
from clipzoo.datasets import ImageFolderDataset
from clipzoo.datasets.augmentations import augmentation_of
from clipzoo.datasets.augmentations.batched import training_transform
from clipzoo.datasets.batches.loader import CaseReader, Collate, Draw, EpochBatches, eval_loader, train_loader
from clipzoo.datasets.batches.samplers import DistinctCaptionSampler, RandomSampler, WeightedSampler
from clipzoo.engine import build
from clipzoo.engine.runner import Runner
from clipzoo.errors import BuildError, ConfigError, DataError
from clipzoo.records.folds import Split
from clipzoo.structures import Preprocessing, Tokens


def random_data(seed):
    """Up to 120 cases in three classes of unlike sizes, with one to three of few or many captions each; training on a part of them."""
    draw = np.random.default_rng(seed)
    num_cases = int(draw.integers(2, 120))
    kinds = int(draw.integers(1, 2 * num_cases))
    shares = draw.dirichlet(np.full(kinds, 10.0 ** draw.uniform(-1, 2)))
    most = min(int(draw.integers(1, 4)), np.count_nonzero(shares))
    captions = [draw.choice(kinds, size=draw.integers(1, most + 1), replace=False, p=shares).tolist() for _ in range(num_cases)]
    data = data_of(captions, draw.choice(3, size=num_cases, p=[0.8, 0.15, 0.05]))
    return data, np.sort(draw.choice(num_cases, size=int(draw.integers(1, num_cases + 1)), replace=False))


def epoch_of(data, rows, sampler, *, epoch=0, start=0, **sizes):
    batches = EpochBatches(data, rows, sampler, seed=5, **sizes)
    batches.set_epoch(epoch, start)
    return list(batches)


class OnlyOrder:
    """What somebody else's sampler may look like: draws half of its cases twice."""

    def order(self, labels, epoch, seed):
        return np.random.default_rng([seed, epoch]).permutation(len(labels)) // 2 * 2 % max(len(labels), 1)


SAMPLERS = [RandomSampler(), *(WeightedSampler(m) for m in ("inverse_freq", "inverse_sqrt", "balanced")), OnlyOrder()]


@pytest.mark.fast_cases(4)
@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: f"{type(s).__name__} {getattr(s, 'method', '')}")
@pytest.mark.parametrize("world_size", [1, 3, *(pytest.param(other, marks=pytest.mark.slow) for other in (2, 4))])
def test_all_processes_together_hold_what_one_would(sampler, world_size):
    """Step by step: equal sizes, no case twice, the same draws as one process with the joint batch; only the last may lack a few."""
    for seed in range(25):
        data, rows = random_data(seed)
        size = seed % 5 + 1
        joint = EpochBatches(data, rows, sampler, batch_size=size * world_size, seed=5)
        joint.set_epoch(seed % 3)
        ranks = [epoch_of(data, rows, sampler, epoch=seed % 3, batch_size=size, rank=r, world_size=world_size) for r in range(world_size)]
        steps = list(zip(*ranks, strict=True))
        made = EpochBatches(data, rows, sampler, batch_size=size, seed=5, world_size=world_size)
        assert len(made) == len(steps)
        assert made.cases_per_epoch == sum(len(batch) for step in steps for batch in step)
        for whole, step in zip(joint, steps, strict=False):
            assert len({len(batch) for batch in step}) == 1
            together = [draw for batch in step for draw in batch]
            assert len({draw.row for draw in together}) == len(together) and {draw.row for draw in together} <= set(rows)
            is_last = len(whole) < size * world_size
            assert set(together) <= set(whole) and len(together) > len(whole) - (world_size if is_last else 1)
        each = len(rows) // world_size
        rest_of_one = each % size == 1 and each > 1
        assert made.cases_per_epoch == (each - rest_of_one) * world_size


def test_the_order_of_a_random_epoch_is_the_samplers_own():
    """Today's losses are yesterday's: cases, seeds and captions are where they were before batches were arranged."""
    data, rows = random_data(3)
    for epoch in range(3):
        order = RandomSampler().order(data.labels[rows], epoch, 5)
        seeds = np.random.SeedSequence([5, epoch]).generate_state(len(rows), dtype=np.uint64) >> np.uint64(1)
        expected = [
            Draw(int(rows[p]), int(s), random.Random(int(s)).choice(data.captions_of(rows[p]))) for p, s in zip(order, seeds, strict=True)
        ]
        assert [d for batch in epoch_of(data, rows, RandomSampler(), epoch=epoch, batch_size=2) for d in batch] == expected[
            : len(rows) // 2 * 2
        ]


@pytest.mark.parametrize(("cases", "expected"), [(1, [1]), (4, [4]), (5, [4]), (6, [4, 2]), (9, [4, 4])])
def test_a_rest_of_one_is_left_out_but_never_the_only_batch(cases, expected):
    data = data_of([[0]] * cases)
    batches = EpochBatches(data, np.arange(cases), RandomSampler(), batch_size=4, seed=0)
    assert [len(b) for b in batches] == expected and len(batches) == len(expected) and batches.cases_per_epoch == sum(expected)


@pytest.mark.parametrize("sampler", [RandomSampler(), WeightedSampler("balanced"), DistinctCaptionSampler()])
def test_an_epoch_starts_where_it_was_left(sampler):
    data, rows = data_of([[i % 15] for i in range(40)]), np.arange(40)
    sizes = {"batch_size": 4, "rank": 1, "world_size": 2}
    whole = epoch_of(data, rows, sampler, epoch=1, **sizes)
    assert epoch_of(data, rows, sampler, epoch=1, start=3, **sizes) == whole[3:] and len(whole) == 5
    assert len(EpochBatches(data, rows, sampler, seed=5, **sizes)) == 5
    assert epoch_of(data, rows, sampler, epoch=2, **sizes) != whole
    assert len({draw.seed for batch in whole for draw in batch}) == sum(map(len, whole))


@pytest.mark.fast_cases(1)
@pytest.mark.parametrize("world_size", [1, 3, *(pytest.param(other, marks=pytest.mark.slow) for other in (2, 4))])
def test_no_caption_twice_in_a_batch(world_size):
    sampler, tried = DistinctCaptionSampler(), 0
    for seed in range(40):
        data, rows = random_data(seed)
        for size in (1, 2, 5):
            made = EpochBatches(data, rows, sampler, batch_size=size, seed=5, world_size=world_size)
            try:
                num_batches = len(made)
            except ConfigError:
                continue
            for epoch in range(3):
                one = epoch_of(data, rows, sampler, epoch=epoch, batch_size=size * world_size)
                ranks = [
                    epoch_of(data, rows, sampler, epoch=epoch, batch_size=size, rank=r, world_size=world_size) for r in range(world_size)
                ]
                tried += 1
                sizes = [len(batch) for batch in one]
                assert len(one) == num_batches and max(sizes) <= size * world_size and max(sizes) - min(sizes) <= 1
                assert epoch > 0 or min(sizes) == size * world_size, "the first epoch's batches are full"
                for whole, step in zip(one, zip(*ranks, strict=True), strict=True):
                    assert len({len(batch) for batch in step}) == 1 and len(step[0]) >= min(size, 2)
                    together = [draw for batch in step for draw in batch]
                    for name in ("row", "caption"):
                        assert len({getattr(draw, name) for draw in together}) == len(together)
                    assert all(d.caption == random.Random(d.seed).choice(data.captions_of(d.row)) for d in together)
                    if min(sizes) >= 2 * world_size:  # otherwise each number of processes makes do in its own way
                        assert set(together) <= set(whole) and len(together) == len(whole) // world_size * world_size
                rows_of_epoch = [draw.row for batch in one for draw in batch]
                assert len(set(rows_of_epoch)) == len(rows_of_epoch)
    assert tried > 100


def test_every_case_has_its_turn_and_cases_of_a_caption_equally_often():
    """60 cases of one caption and 40 of ten others, in batches of 4."""
    data, rows = data_of([[0]] * 60 + [[1 + i % 10] for i in range(40)]), np.arange(100)
    made = EpochBatches(data, rows, DistinctCaptionSampler(), batch_size=4, seed=5)
    assert len(made) == 13 and made.cases_per_epoch == 52, "min(60, 13) + 40 = 53 ≥ 13 · 4; 14 batches would need 56 of 54"
    visits = np.zeros(100, dtype=int)
    for epoch in range(60):
        made.set_epoch(epoch)
        visits[[draw.row for batch in made for draw in batch]] += 1
        if epoch == 9:
            assert visits.min() >= 1, "5 epochs at best, where the one of 53 that is left over is never of the 60"
    # Of the 60, 13 take part in each of 60 epochs; in every epoch one of 53 is left out, so that about 1.1 is missing from each case.
    assert visits.sum() == 52 * 60 and visits[:60].min() >= 8 and visits[:60].max() <= 13 and visits[60:].min() >= 54


def test_epochs_of_less_luck_have_smaller_batches_not_fewer():
    """200 cases in five classes, each described by one of its four captions: 20 captions in batches of 19."""
    data, rows = data_of([[4 * (i % 5) + j for j in range(4)] for i in range(200)]), np.arange(200)
    made = EpochBatches(data, rows, DistinctCaptionSampler(), batch_size=19, seed=5)
    sizes = []
    for epoch in range(30):
        made.set_epoch(epoch)
        sizes.append([len(batch) for batch in made])
    assert {len(s) for s in sizes} == {len(made)} and sizes[0] == [19] * len(made)
    assert min(map(min, sizes)) in (16, 17, 18), "some epoch of the thirty was less favourable"


def test_fewer_captions_than_a_batch():
    data, rows = data_of([[i % 10] for i in range(50)]), np.arange(50)
    with pytest.raises(
        ConfigError, match=r"data.batch_size: 11 makes batches of 11 cases, but only 10 distinct .* 50 .* Use 10 or less, or"
    ):
        len(EpochBatches(data, rows, DistinctCaptionSampler(), batch_size=11, seed=0))
    with pytest.raises(ConfigError, match=r"data.batch_size: 4 on 3 processes makes batches of 12 .* Use 3 or less per process, or"):
        len(EpochBatches(data, rows, DistinctCaptionSampler(), batch_size=4, seed=0, world_size=3))
    with pytest.raises(ConfigError, match="Use fewer processes"):
        len(EpochBatches(data, rows, DistinctCaptionSampler(), batch_size=1, seed=0, world_size=11))
    assert len(EpochBatches(data, rows, DistinctCaptionSampler(), batch_size=10, seed=0)) == 5


def test_samplers_that_break_their_promises():
    class Short(RandomSampler):
        def order(self, labels, epoch, seed):
            return super().order(labels, epoch, seed)[1:]

    class Twice(OnlyOrder):
        distinct = "caption"

    class Unknown(RandomSampler):
        distinct = "image"

    data, rows = data_of([[i] for i in range(10)]), np.arange(10)
    with pytest.raises(BuildError, match="Short.order: 9 positions for 10 cases"):
        epoch_of(data, rows, Short(), batch_size=2)
    with pytest.raises(BuildError, match="Twice.order: .* every case once"):
        epoch_of(data, rows, Twice(), batch_size=2)
    with pytest.raises(BuildError, match="Unknown.distinct: 'image'"):
        epoch_of(data, rows, Unknown(), batch_size=2)


def test_a_draw_brings_its_caption_to_the_batch():
    data = data_of([[i, i + 1] for i in range(6)])
    data.read_image = lambda row: Image.new("RGB", (2, 2))
    tokens = Tokens(ids=torch.arange(7)[:, None], lengths=torch.ones(7, dtype=torch.int64))
    reader = CaseReader(data, lambda image: torch.zeros(3, 2, 2))
    drawn = [Draw(4, 1, 5), Draw(0, 2, 0), Draw(5, 3, 5)]
    batch = Collate(data, tokens)([reader[draw] for draw in drawn])
    assert batch.caption_ids[batch.caption].tolist() == [5, 0, 5] and batch.cases.tolist() == [4, 0, 5]
    loader = eval_loader(data, np.arange(6), lambda image: torch.zeros(3, 2, 2), batch_size=4, num_workers=0, pin_memory=False)
    assert [draw for batch in loader.batch_sampler for draw in batch] == [Draw(row, 0, -1) for row in range(6)]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_damaged_image_is_one_line_also_from_a_worker(num_workers):
    data = data_of([[0], [1], [2]])
    data.read_image = read_all_but_the_second
    loader = eval_loader(data, np.arange(3), lambda image: torch.zeros(3, 2, 2), batch_size=1, num_workers=num_workers, pin_memory=False)
    batches = iter(loader)
    assert next(batches).cases.tolist() == [0]
    with pytest.raises(DataError) as caught, closing(loader):
        next(batches)
    assert str(caught.value) == "1.png: damaged"


@pytest.mark.parametrize(
    "spec", ["standard", ["standard", {"type": "RandomEqualize", "p": 1}], {"type": "ColorJitter", "contrast": 0.9, "hue": 0.1}]
)
def test_a_worker_makes_the_pixels_of_the_training_process(spec, class_folders):
    """A worker has one thread; torch's sum of an image of this size depends on their number."""
    data, preprocessing, found = ImageFolderDataset(str(class_folders)), Preprocessing(size=224), []
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for num_workers in (0, 1):
            transform, augment = training_transform(augmentation_of(spec), preprocessing)
            batches = EpochBatches(data, np.arange(len(data)), RandomSampler(), batch_size=5, seed=0)
            options = {"all_captions": False, "num_workers": num_workers, "pin_memory": False, "augment": augment}
            with closing(train_loader(data, batches, transform, None, **options)) as loader:
                found.append(torch.cat([batch.images for batch in loader]))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*found)


def read_all_but_the_second(row):
    if row == 1:
        raise DataError("1.png: damaged")
    return Image.new("RGB", (2, 2))


@pytest.mark.slow
def test_everything_that_workers_get_can_be_sent_to_them(config_of, tmp_path, quiet):
    """macOS, Windows and Python 3.14 start workers as new processes, to which dataset, transform and collate are pickled."""
    config = config_of(data={"augmentation": "standard"})
    data = build.dataset(config)
    ids = tuple(case.id for case in data.cases)
    run = Runner(config, data, Split("fold_1", ids[2:], (), ids[:2]), tmp_path, console=quiet).run
    for loader in (run.train_loader, run.eval_loaders["test"]):
        reader, collate = pickle.loads(pickle.dumps((loader.dataset, loader.collate_fn)))
        draws = next(iter(loader.batch_sampler))
        sent, own = collate([reader[draw] for draw in draws]), loader.collate_fn([loader.dataset[draw] for draw in draws])
        assert (sent.opened().images == own.opened().images).all()


@pytest.mark.slow
def test_commands_may_be_imported_again_by_a_worker(repo):
    """A worker started as a new process imports the main script: whatever it calls outside ``if __name__ == …`` would run again."""
    for path in (repo / "tools").glob("*.py"):
        statements = ast.parse(path.read_text(encoding="utf-8")).body
        assert not any(isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) for node in statements), path


@pytest.mark.slow
def test_workers_started_as_new_processes_train(class_folders, tmp_path, repo):
    from tiny import tiny_config

    config = tmp_path / "tiny.py"
    text = Config.from_dict(tiny_config(class_folders, data={"num_workers": 1}, train={"epochs": 1})).dump()
    config.write_text(f"import multiprocessing as _m\n_m.set_start_method('spawn', force=True)\n{text}", encoding="utf-8")
    command = [sys.executable, str(repo / "tools" / "train.py"), str(config), "--fold", "1", "--work-dir", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_a_signal_to_the_whole_process_group_leaves_a_checkpoint(class_folders, tmp_path, repo):
    from tiny import tiny_config

    config, history = tmp_path / "tiny.py", tmp_path / "run" / "fold_1" / "history.json"
    sections = {"data": {"num_workers": 2, "batch_size": 2}, "train": {"epochs": 500}}
    config.write_text(Config.from_dict(tiny_config(class_folders, **sections)).dump(), encoding="utf-8")
    command = [sys.executable, str(repo / "tools" / "train.py"), str(config), "--fold", "1", "--work-dir", str(tmp_path / "run")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True)
    while not history.exists() and process.poll() is None:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGTERM)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 143 and "the checkpoint is written" in err, err
