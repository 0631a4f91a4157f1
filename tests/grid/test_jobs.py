"""Grids: which jobs, under which names and configs; how they run beside each other; and the table at the end."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from clipzoo.config import Config
from clipzoo.config.checking import check
from clipzoo.errors import CheckpointError, ConfigError
from clipzoo.grid import jobs as grid
from clipzoo.grid.jobs import OLD_KEYS, OTHER_OLD_KEYS, Job, folder_name, jobs_from_json, product
from clipzoo.grid.leaderboard import leaderboard, sorting
from clipzoo.grid.running import Grid, Outcome
from clipzoo.records.results import Summary

# The sample of the old scripts' guide, word for word.
OLD_EXPERIMENT = """
[
  {
    "image_encoder_name": "resnet18",
    "text_encoder_name": "clip:ViT-B/32",
    "embed_dim": 512,
    "batch_size": 32,
    "epochs": 100,
    "learning_rate": 1e-4,
    "weight_decay": 0.01,
    "temperature": 0.07,
    "img_size": 224,
    "augmentation": "standard",
    "num_workers": 4,
    "use_amp": true,
    "gpu_id": 0,
    "save_best": true,
    "use_cv": true,
    "n_splits": 5,
    "random_state": 42,
    "class_texts_file": "class_texts_hip_prosthesis.json",
    "use_weighted_sampling": true,
    "weight_method": "inverse_freq",
    "weight_smooth_factor": 1.0
  }
]
"""


@pytest.fixture
def hip(repo) -> Path:
    """The base config that experiments of the old scripts are laid over."""
    return repo / "configs" / "clip" / "r18_bertzh_hip_5fold.py"


@pytest.fixture
def old(tmp_path):
    """``old({...}, ...)``: experiments as a JSON file."""

    def write(*experiments: object) -> Path:
        path = tmp_path / "train_clip_config.json"
        path.write_text(json.dumps(experiments, ensure_ascii=False), encoding="utf-8")
        return path

    return write


def resolved(job: Job, base: Path) -> Config:
    config = Config.load(base, job.overrides)
    check(config)
    return config


# --- which jobs ------------------------------------------------------------------------------------------------------------------------


def test_product_is_every_combination_in_order():
    jobs = product(["resnet18", "starnet_s1:pretrained"], ["clip:ViT-B/32", "bert"], [1, 2])
    assert [job.name for job in jobs] == [
        "resnet18_clip-ViT-B-32_seed1", "resnet18_clip-ViT-B-32_seed2", "resnet18_bert_seed1", "resnet18_bert_seed2",
        "starnet_s1-pretrained_clip-ViT-B-32_seed1", "starnet_s1-pretrained_clip-ViT-B-32_seed2",
        "starnet_s1-pretrained_bert_seed1", "starnet_s1-pretrained_bert_seed2",
    ]  # fmt: skip
    assert jobs[1].overrides == ("model.image_encoder=resnet18", "model.text_encoder=clip:ViT-B/32", "runtime.seed=2")
    assert [job.name for job in product(["vit"], ["bert"], [7])] == ["vit_bert"]


@pytest.mark.parametrize(
    ("towers", "name"),
    [
        (("resnet18", "bert-base-chinese"), "resnet18_bert-base-chinese"),
        (("timm:resnet18.a1_in1k", "hf:/data/my bert"), "timm-resnet18.a1_in1k_hf-data-my-bert"),
        (("vit", "hf:模型/中文"), "vit_hf-模型-中文"),
        (("../..", "bert"), "_bert"),
    ],
)
def test_folder_names_are_one_plain_folder(towers, name):
    assert folder_name(*towers) == name and "/" not in name and not name.startswith("..")


def test_towers_that_would_share_a_folder_are_kept_apart_and_repetitions_dropped():
    jobs = product(["resnet18", "resnet18"], ["hf:a/b", "hf:a-b"], [1])
    assert [job.name for job in jobs] == ["resnet18_hf-a-b", "resnet18_hf-a-b_2"]


def test_a_spelled_tower_replaces_a_dict_and_takes_arguments_after_that(repo):
    """The base config describes its tower by a dict; the job names another, and an option sets one of its arguments."""
    from clipzoo.registries import BACKBONES

    path = repo / "configs" / "clip" / "r18_bertzh_digits_5fold.py"
    assert Config.load(path).model.image_encoder.type == "ResNet", "a dict in the base config"
    (job,) = product(["starnet_s1"], ["bert"], [3])
    options = ["model.image_encoder.image_size=64", "runtime.seed=9", "train.epochs=2"]
    config = Config.load(path, grid.in_order(options, job))
    check(config)
    assert config.model.image_encoder == {"type": "starnet_s1", "image_size": 64} and config.model.text_encoder == "bert"
    assert config.train.epochs == 2 and config.runtime.seed == 3, "the seeds of the grid win"
    assert BACKBONES.expand(config.model.image_encoder) == {"type": "StarNet", "variant": "s1", "pretrained": False, "image_size": 64}


# --- experiments of the old scripts ----------------------------------------------------------------------------------------------------


def test_the_old_sample_means_what_it_meant(hip, tmp_path):
    path = tmp_path / "train_clip_config.json"
    path.write_text(OLD_EXPERIMENT, encoding="utf-8")
    (job,) = jobs_from_json(path, "single_label_data")
    assert (job.name, job.image, job.text, job.seed, job.device) == ("resnet18_clip-ViT-B-32", "resnet18", "clip:ViT-B/32", 42, "cuda:0")
    config = resolved(job, hip)
    assert config.model.image_encoder == {"type": "resnet18", "image_size": 224} and config.model.text_encoder == "clip:ViT-B/32"
    assert config.model.embed_dim == 512 and config.model.temperature == 0.07
    assert config.data.dataset == {
        "type": "ImageFolderDataset", "root": "single_label_data", "class_texts": "class_texts_hip_prosthesis.json", "groups": None,
    }  # fmt: skip
    assert (config.data.batch_size, config.data.num_workers, config.data.augmentation) == (32, 4, "standard")
    assert config.data.sampler == {"type": "WeightedSampler", "method": "inverse_freq", "smooth_factor": 1.0}
    assert config.train.epochs == 100 and config.optimizer.lr == 1e-4 and config.optimizer.weight_decay == 0.01
    assert (config.splits.num_folds, config.splits.seed, config.runtime.seed) == (5, 42, 42)
    assert config.splits.val_fraction == 0.1 and config.runtime.precision == "auto"


def test_every_key_of_the_old_sample_is_known():
    keys = set(json.loads(OLD_EXPERIMENT)[0])
    assert keys <= {*OLD_KEYS, *OTHER_OLD_KEYS}


@pytest.mark.parametrize(
    ("entry", "where", "value"),
    [
        ({"use_amp": False}, "runtime.precision", "fp32"),
        ({"save_best": False}, "splits.val_fraction", 0),
        ({"use_weighted_sampling": False}, "data.sampler", None),
        ({}, "data.sampler", None),
        ({"use_weighted_sampling": True, "weight_method": "balanced"}, "data.sampler.method", "balanced"),
        ({"use_weighted_sampling": True, "weight_smooth_factor": 0.5}, "data.sampler.smooth_factor", 0.5),
        ({"text_template": "{class_name}的X光片"}, "data.dataset.template", "{class_name}的X光片"),
        ({"text_template": "{class_name}的X光片"}, "data.dataset.class_texts", None),
        ({"random_state": 7}, "runtime.seed", 7),
        ({"random_state": 7}, "splits.seed", 7),
        ({"data_dir": "x"}, "data.dataset.root", "x"),
        ({"image_encoder_name": "starnet_s1:pretrained"}, "model.image_encoder", "starnet_s1:pretrained"),
        ({"text_encoder_name": "bert-base-chinese"}, "model.text_encoder", "bert-base-chinese"),
    ],
)
def test_every_old_switch_reaches_its_place(hip, old, entry, where, value):
    (job,) = jobs_from_json(old(entry))
    found = resolved(job, hip).plain()
    for key in where.split("."):
        found = found[key]
    assert found == value


def test_equal_towers_get_folders_of_their_own(old):
    jobs = jobs_from_json(old({"epochs": 1}, {"epochs": 2}, {"image_encoder_name": "vit"}))
    assert [job.name for job in jobs] == ["resnet18_clip-ViT-B-32", "resnet18_clip-ViT-B-32_2", "vit_clip-ViT-B-32"]


@pytest.mark.parametrize(
    ("experiments", "message"),
    [
        ([], "a list of experiments"),
        (["resnet18"], "a list of experiments"),
        ([{"learning_rat": 1}], "experiment 1: unknown key 'learning_rat'. Did you mean 'learning_rate'?"),
        ([{}, {"image_encoder_name": 18}], "experiment 2: image_encoder_name and text_encoder_name must be strings"),
        ([{"use_cv": False}], "experiment 1: use_cv must be true"),
    ],
)
def test_wrong_experiments_are_refused(old, experiments, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        jobs_from_json(old(*experiments))


# --- before the first job --------------------------------------------------------------------------------------------------------------


def test_the_problems_of_all_jobs_are_reported_at_once(tiny, tmp_path):
    jobs = product(["resnet18", "resnet19"], ["bert", "brt"], [1])
    with pytest.raises(ConfigError) as caught:
        grid.check_jobs(jobs, str(tiny), tmp_path / "grid", ["train.epochs=many"])
    lines = str(caught.value).splitlines()
    assert len(lines) == 3 and all("--cfg-options" not in line for line in lines)
    assert any("'resnet19'. Did you mean 'resnet18'?" in line and line.endswith("(in resnet19_bert, resnet19_brt)") for line in lines)
    assert any("'brt'. Did you mean 'bert'?" in line for line in lines)
    assert any(line.startswith("train.epochs: 'many'") and "and 1 more" in line for line in lines)
    assert not (tmp_path / "grid").exists()


def test_a_job_folder_of_another_config_is_not_taken_for_finished(tiny, tmp_path, finished_job):
    (job,) = product(["timm:test_resnet"], ["bert"], [1])
    config = Config.load(tiny, job.overrides)
    finished_job(tmp_path / "grid" / job.name, config, accuracy=0.5)
    grid.check_jobs([job], str(tiny), tmp_path / "grid", [])
    with pytest.raises(CheckpointError, match=r"timm-test_resnet_bert: made with another config.* train.epochs: 1 -> 5"):
        grid.check_jobs([job], str(tiny), tmp_path / "grid", ["train.epochs=5"])


def job(name: str, device: str | None = None) -> Job:
    return Job(name, "i", "t", 1, (f"x={name}",), device)


# --- the leaderboard -------------------------------------------------------------------------------------------------------------------


def test_the_leaderboard_is_sorted_and_written_twice(finished_job, tmp_path):
    jobs = [job("low"), job("failed"), job("high"), job("undefined")]
    finished_job(tmp_path / "low", accuracy=0.25)
    finished_job(tmp_path / "high", accuracy=0.75)
    finished_job(tmp_path / "undefined", accuracy=float("nan"))
    outcomes = [Outcome(j, "failed" if j.name == "failed" else "done", 1.0) for j in jobs]
    header, rows, _ = leaderboard(jobs, outcomes, tmp_path, metric="accuracy")
    assert [row[0] for row in rows] == ["high", "low", "failed", "undefined"]
    first = dict(zip(header, rows[0], strict=True))
    assert first["accuracy (pooled)"] == "0.7500" and first["accuracy (mean ± sd)"] == "0.7500 ± 0.1000" and first["seconds"] == "12"
    assert rows[2][4] == "failed" and set(rows[2][5:]) == {""} and "– ± 0.1000" in rows[3]
    with open(tmp_path / "leaderboard.csv", encoding="utf-8", newline="") as file:
        found = list(csv.reader(file))
    assert found == [[*header, "accuracy low", "accuracy high"], *([*row, "–", "–"] for row in rows)]
    text = (tmp_path / "leaderboard.md").read_text(encoding="utf-8")
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 6 and len({line.count("|") for line in table}) == 1 and "by pooled accuracy" in text
    assert "same folds" not in text


def test_a_loss_is_sorted_upwards(finished_job, tmp_path, config_of):
    jobs = [job("low"), job("high")]
    finished_job(tmp_path / "low", accuracy=0.25)
    finished_job(tmp_path / "high", accuracy=0.75)
    config = config_of()
    assert sorting(config, "accuracy") == ("accuracy", True) and sorting(config, "log_loss") == ("log_loss", False)
    assert sorting(config, None) == ("balanced_accuracy", True), "what chooses the epoch"
    _, rows, _ = leaderboard(jobs, [], tmp_path, metric="log_loss", higher_is_better=False)
    assert [row[0] for row in rows] == ["high", "low"] and rows[0][4] == "not run"
    with pytest.raises(ConfigError, match="--sort-by: 'acuracy' is not among the metrics. Did you mean 'accuracy'"):
        sorting(config, "acuracy")


def test_the_leaderboard_says_what_makes_rows_incomparable(finished_job, tmp_path):
    jobs = [replace(job("a|b"), image="x|y"), job("b")]
    finished_job(tmp_path / "a|b", accuracy=0.25, optimistic=True, digest="other")
    finished_job(tmp_path / "b", accuracy=0.75, f1=0.5)
    leaderboard(jobs, [], tmp_path, metric="accuracy")
    text = (tmp_path / "leaderboard.md").read_text(encoding="utf-8")
    assert "Not all jobs were scored on the same folds" in text and "not run (optimistic)" in text and "x\\|y" in text


# --- the command -----------------------------------------------------------------------------------------------------------------------


def run_command(*arguments: object) -> int:
    from clipzoo.cli import main

    with pytest.raises(SystemExit) as end:
        main(["grid", *map(str, arguments)])
    return end.value.code


@pytest.fixture
def seen(monkeypatch) -> list:
    """The jobs and devices that the command would run."""
    found: list = []

    def run(self, slots):
        found.append((self.jobs, [slot.device for slot in slots], list(self.options)))
        return [Outcome(j, "done", 0.0) for j in self.jobs]

    monkeypatch.setattr(Grid, "run", run)
    return found


def test_the_seed_is_the_configs_unless_seeds_are_given(seen, tiny, tmp_path, capsys):
    arguments = [tiny, "--image", "timm:test_resnet", "--text", "bert", "--work-dir", tmp_path / "grid"]
    assert run_command(*arguments, "--cfg-options", "runtime.seed=7") == 0
    assert run_command(*arguments, "--seeds", 1, 2, "--devices", "cpu", "cpu") == 0
    (first, devices, options), (second, both, _) = seen
    assert [j.seed for j in first] == [7] and devices == ["auto"] and options == ["runtime.seed=7"]
    assert [j.seed for j in second] == [1, 2] and both == ["cpu", "cpu"]
    assert "leaderboard:" in capsys.readouterr().out


def test_devices_of_the_command_line_win_over_gpu_id(seen, hip, old, tmp_path, class_folders):
    path = old({"gpu_id": 1}, {"gpu_id": 0, "epochs": 2})
    arguments = [hip, "--experiments", path, "--data-dir", class_folders, "--work-dir", tmp_path / "grid"]
    assert run_command(*arguments) == 0 and run_command(*arguments, "--devices", "cpu") == 0
    (jobs, devices, _), (free, cpu, _) = seen
    assert devices == ["cuda:0", "cuda:1"] and [j.device for j in jobs] == ["cuda:1", "cuda:0"]
    assert cpu == ["cpu"] and [j.device for j in free] == [None, None]


def test_jobs_take_turns_on_the_devices(seen, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("clipzoo.runtime.jobs.shares.cores", lambda: 8)
    arguments = [tiny, "--image", "timm:test_resnet", "--text", "bert", "--seeds", 1, 2, 3, "--work-dir", tmp_path / "grid"]
    for more in (
        ["--jobs", 2],
        ["--jobs", "auto"],
        ["--jobs", 9, "--devices", "cpu", "cuda:1"],
        ["--jobs", "auto", "--devices", "cuda:0", "cuda:1"],
    ):
        assert run_command(*arguments, *more) == 0
    devices = [["auto", "auto"], ["auto"] * 3, ["cpu", "cuda:1", "cpu"], ["cuda:0", "cuda:1"]]
    assert [found[1] for found in seen] == devices


@pytest.mark.parametrize(
    "more",
    [["--image", "resnet18"], ["--experiments", "x.json", "--image", "vit"], ["--image", "vit", "--text", "bert", "--data-dir", "x"]],
)
def test_half_a_question_is_refused(more, tiny, capsys):
    assert run_command(tiny, *more) == 2
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.slow
def test_a_grid_from_end_to_end(tiny, tmp_path, capsys):
    """Two real jobs beside each other: one trains, one finds no weights and fails; started again, the first is skipped."""
    arguments = [
        tiny, "--image", "timm:test_resnet", "--text", "bert", "hf:no/such/folder", "--devices", "cpu", "cpu",
        "--work-dir", tmp_path / "grid", "--cfg-options", "model.image_encoder.image_size=32",
    ]  # fmt: skip
    assert run_command(*arguments) == 1
    ended = capsys.readouterr()
    assert "timm-test_resnet_bert: done after" in ended.err and "_hf-no-such-folder: failed after" in ended.err
    assert "error: " in ended.err and "Traceback" not in ended.err and "no/such/folder" in ended.err
    rows = [line.split() for line in ended.out.splitlines() if line.startswith("timm-")]
    assert [row[0] for row in rows] == ["timm-test_resnet_bert", "timm-test_resnet_hf-no-such-folder"]
    assert len(Summary.read(tmp_path / "grid" / "timm-test_resnet_bert").folds) == 2 and rows[1][2] == "failed"
    assert not (tmp_path / "grid" / "timm-test_resnet_hf-no-such-folder").exists()
    config = json.loads((tmp_path / "grid" / "timm-test_resnet_bert" / "config.json").read_text(encoding="utf-8"))["config"]
    assert config["model"]["image_encoder"] == {"type": "timm:test_resnet", "image_size": 32}
    assert (tmp_path / "grid" / "leaderboard.csv").exists() and (tmp_path / "grid" / "leaderboard.md").exists()
    assert run_command(*arguments[:5], *arguments[6:]) == 0
    assert "timm-test_resnet_bert: skipped after 0 s: finished earlier" in capsys.readouterr().err
