"""Many training runs from one base config: which ones, under which names, and whether they can be started."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from clipzoo.config import Config
from clipzoo.config.checking import check
from clipzoo.config.plugins import import_plugins
from clipzoo.engine import work_dir
from clipzoo.errors import ConfigError, did_you_mean, shortened
from clipzoo.files import read_json

# Keys of the old scripts' train_clip_config.json, and the corresponding config paths.
OLD_KEYS = {
    "image_encoder_name": "model.image_encoder",
    "text_encoder_name": "model.text_encoder",
    "embed_dim": "model.embed_dim",
    "temperature": "model.temperature",
    "img_size": "model.image_encoder.image_size",
    "batch_size": "data.batch_size",
    "augmentation": "data.augmentation",
    "num_workers": "data.num_workers",
    "class_texts_file": "data.dataset.class_texts",
    "text_template": "data.dataset.template",
    "data_dir": "data.dataset.root",
    "epochs": "train.epochs",
    "learning_rate": "optimizer.lr",
    "weight_decay": "optimizer.weight_decay",
    "n_splits": "splits.num_folds",
    "random_state": "splits.seed",
}
OTHER_OLD_KEYS = ("use_amp", "gpu_id", "save_best", "use_cv", "use_weighted_sampling", "weight_method", "weight_smooth_factor")


@dataclass(frozen=True)
class Job:
    """One training run.

    Attributes:
        name: Name of the job and of its folder.
        image: Image tower, as written by the user.
        text: Text tower, as written by the user.
        seed: Value of ``runtime.seed``; the folds are the same for all jobs, so that they can be compared case by case.
        overrides: Overrides ``key=value`` for ``--cfg-options``.
        device: Device of an old experiment's ``gpu_id``; ``None`` for any of the grid's devices.
    """

    name: str
    image: str
    text: str
    seed: int
    overrides: tuple[str, ...]
    device: str | None = None


def product(images: Sequence[str], texts: Sequence[str], seeds: Sequence[int]) -> list[Job]:
    """Every combination of image tower, text tower and seed."""
    jobs = []
    for image in images:
        for text in texts:
            for seed in seeds:
                name = folder_name(image, text) + (f"_seed{seed}" if len(seeds) > 1 else "")
                overrides = (f"model.image_encoder={image}", f"model.text_encoder={text}", f"runtime.seed={seed}")
                jobs.append(Job(name, image, text, seed, overrides))
    return _unique_names(list(dict.fromkeys(jobs)))


def folder_name(image: str, text: str) -> str:
    """A folder name for two tower names.

    >>> folder_name('starnet_s1:pretrained', 'clip:ViT-B/32')
    'starnet_s1-pretrained_clip-ViT-B-32'
    """
    return "_".join(re.sub(r"[^\w.]+", "-", part).strip("-.") for part in (image, text))


def jobs_from_json(path: str | Path, data_dir: str | None = None) -> list[Job]:
    """The experiments of an old ``train_clip_config.json``: a list of objects with the old keys.

    Args:
        path: The JSON file.
        data_dir: Class folders, which the old shell script defined and the JSON did not.

    Raises:
        DataError: The file is not JSON.
        ConfigError: The content is not a list of objects, or a key is unknown.
    """
    content = read_json(path)
    if not isinstance(content, list) or not content or not all(isinstance(entry, dict) for entry in content):
        raise ConfigError(f"{path}: expected a list of experiments (objects)")
    jobs = []
    for number, entry in enumerate(content, start=1):
        where = f"{path}: experiment {number}"
        known = [*OLD_KEYS, *OTHER_OLD_KEYS]
        for key in entry:
            if key not in known:
                raise ConfigError(f"{where}: unknown key '{key}'.{did_you_mean(key, known)} Known: {', '.join(known)}")
        jobs.append(_job_from_old(entry, where, data_dir))
    return _unique_names(jobs)


def _job_from_old(entry: dict, where: str, data_dir: str | None) -> Job:
    image, text = entry.get("image_encoder_name", "resnet18"), entry.get("text_encoder_name", "clip:ViT-B/32")
    if not isinstance(image, str) or not isinstance(text, str):
        raise ConfigError(f"{where}: image_encoder_name and text_encoder_name must be strings")
    seed = entry.get("random_state", 42)
    entry = {"image_encoder_name": image, "text_encoder_name": text, **({"data_dir": data_dir} if data_dir else {}), **entry}
    overrides = [f"{path}={entry[key]!r}" for key, path in OLD_KEYS.items() if key in entry]
    overrides.append(f"runtime.seed={seed!r}")
    if data_dir or "data_dir" in entry:
        overrides.append("data.dataset.groups=None")  # the old scripts had no patient groups
    if "class_texts_file" not in entry and ("text_template" in entry or data_dir):
        overrides.append("data.dataset.class_texts=None")
    if entry.get("use_weighted_sampling"):
        overrides.append("data.sampler.type='WeightedSampler'")
        overrides += [f"data.sampler.method={entry['weight_method']!r}"] if "weight_method" in entry else []
        overrides += [f"data.sampler.smooth_factor={entry['weight_smooth_factor']!r}"] if "weight_smooth_factor" in entry else []
    else:
        overrides.append("data.sampler=None")
    if not entry.get("use_amp", True):
        overrides.append("runtime.precision='fp32'")
    if not entry.get("save_best", True):
        overrides.append("splits.val_fraction=0")
    if not entry.get("use_cv", True):
        raise ConfigError(f"{where}: use_cv must be true. For a single split use a config with splits.type='Holdout'")
    device = f"cuda:{entry['gpu_id']}" if "gpu_id" in entry else None
    return Job(folder_name(image, text), image, text, seed, tuple(overrides), device)


def _unique_names(jobs: list[Job]) -> list[Job]:
    seen: dict[str, int] = {}
    unique = []
    for job in jobs:
        seen[job.name] = seen.get(job.name, 0) + 1
        suffix = f"_{seen[job.name]}" if seen[job.name] > 1 else ""
        unique.append(replace(job, name=job.name + suffix))
    return unique


def in_order(options: Sequence[str], job: Job) -> list[str]:
    """All overrides of a job: options that refine something the job names come after it, all others before.

    >>> job = Job('vit_bert', 'vit', 'bert', 1, ('model.image_encoder=vit', 'runtime.seed=1'))
    >>> in_order(['model.image_encoder.image_size=64', 'runtime.seed=7', 'train.epochs=3'], job)[-3:]
    ['model.image_encoder=vit', 'runtime.seed=1', 'model.image_encoder.image_size=64']
    """
    named = tuple(f"{override.partition('=')[0]}." for override in job.overrides)
    below = [option for option in options if option.startswith(named)]
    return [*(option for option in options if option not in below), *job.overrides, *below]


def check_jobs(jobs: Sequence[Job], config: str, folder: Path, options: Sequence[str]) -> Config:
    """Refuse jobs that would fail, or be confused with another run, before the first one starts.

    Returns:
        The config of a job.

    Raises:
        ConfigError: The config of a job is invalid; the message lists the problems of all jobs.
        CheckpointError: The folder of a job contains a run of another config.
    """
    problems: dict[str, list[str]] = {}
    for job in jobs:
        try:
            resolved = Config.load(config, in_order(options, job))
            import_plugins(resolved.get("plugins", []))
            check(resolved)
            if resolved.splits.get("num_repeats", 1) > 1:
                raise ConfigError(
                    "splits.num_repeats: a grid compares single cross-validations. Leave it out, and repeat the best ones later"
                )
        except ConfigError as error:
            for problem in str(error).splitlines():
                problems.setdefault(problem.removesuffix("  [--cfg-options]"), []).append(job.name)
            continue
        if work_dir.is_experiment(folder / job.name):
            work_dir.check_same(folder / job.name, resolved, None)
    if problems:
        raise ConfigError("\n".join(f"{problem}  (in {shortened(names, 3)})" for problem, names in problems.items()))
    return resolved
