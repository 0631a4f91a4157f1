"""Batches from the draws of an epoch, and what makes worker processes possible: parts that can be sent to them, and commands that may be
imported again by them.
"""

import ast
import os
import pickle
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
from clipzoo.datasets.batches.epochs import Draw, EpochBatches
from clipzoo.datasets.batches.loader import CaseReader, Collate, eval_loader, train_loader
from clipzoo.datasets.batches.samplers import RandomSampler
from clipzoo.engine import build
from clipzoo.engine.runner import Runner
from clipzoo.errors import DataError
from clipzoo.records.folds import Split
from clipzoo.structures import Preprocessing, Tokens


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
