"""``tools/fewshot.py train|predict|evaluate …``: fine-tune, predict few-shot tasks, and measure few-shot accuracy."""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from typing import TYPE_CHECKING

from clipzoo.cli import command_line, model_arguments, output_file
from clipzoo.commands import typed

if TYPE_CHECKING:
    import logging
    from collections.abc import Sequence

    import numpy as np
    from rich.console import Console

    from clipzoo.datasets.image_folder import ImageFolderDataset
    from clipzoo.features.store import FeatureStore
    from clipzoo.fewshot.episodes import EpisodePool, Point
    from clipzoo.fewshot.prediction import Predicted
    from clipzoo.fewshot.tasks import Task
    from clipzoo.inference.model import LoadedModel

PREDICT = """Predict the query images of few-shot tasks from their support images:

  TEST_DIR/testB/task*/support/<class>/*    a few images of each class
  TEST_DIR/testB/task*/query/*              images to predict

RESULT.csv has the columns task,image,label,score. All images are encoded in one pass. Hyper-parameters are chosen by cross-validation
within each task's support set."""
EVALUATE = """Measure few-shot classification on class folders: many small tasks (episodes) are drawn, with support and query images from
different groups.

Prints the mean accuracy over the episodes with its 95 % interval, which covers the choice of episodes, not other images."""
COMMANDS = {
    "train": "fine-tune on class folders, as train does: the same arguments",
    "predict": "predict the query images of tasks from their support images",
    "evaluate": "mean accuracy over episodes drawn from class folders",
}


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    command = arguments[0] if arguments else "--help"
    if command == "train":
        from clipzoo.cli import train

        train.main(arguments[1:], "fewshot train")
    elif command == "predict":
        command_line.run(predict, predict_parser().parse_args(arguments[1:]))
    elif command == "evaluate":
        command_line.run(evaluate, evaluate_parser().parse_args(arguments[1:]))
    elif command in ("--help", "-h"):
        lines = [f"  {name:<8}  {what}" for name, what in COMMANDS.items()]
        command_line.show("\n".join([f"usage: {typed('fewshot')} COMMAND …   ({typed('fewshot COMMAND')} --help for each)", "", *lines]))
    else:
        from clipzoo.errors import did_you_mean

        command_line.say(f"error: fewshot: no command '{command}'.{did_you_mean(command, COMMANDS)} Commands: {', '.join(COMMANDS)}")
        raise SystemExit(2)


def predict_parser() -> argparse.ArgumentParser:
    """The arguments of ``predict``."""
    parser = command_line.parser("fewshot predict", PREDICT)
    parser.add_argument("checkpoint", metavar="CHECKPOINT", type=command_line.path_text, help=model_arguments.SOURCE)
    parser.add_argument("folder", metavar="TEST_DIR", type=command_line.path, help="folder that contains the task folders, or testB")
    parser.add_argument("result", metavar="RESULT.csv", type=command_line.path, help="output file")
    help_ = "prototype (the default), linear, tip, knn, zero_shot or a probe of a plugin"
    parser.add_argument("--method", default="prototype", metavar="NAME", help=help_)
    parser.add_argument("--temperature", type=float, metavar="T", help="temperature of prototype (default: chosen for each task)")
    parser.add_argument("--force", action="store_true", help="overwrite a file with other content")
    _add_shared(parser)
    return parser


def evaluate_parser() -> argparse.ArgumentParser:
    """The arguments of ``evaluate``."""
    parser = command_line.parser("fewshot evaluate", EVALUATE)
    parser.add_argument("checkpoint", metavar="CHECKPOINT", type=command_line.path_text, help=model_arguments.SOURCE)
    parser.add_argument("data", metavar="DATA", type=command_line.path, help="folder with one folder of images per class")
    parser.add_argument("--way", type=int, default=5, metavar="N", help="classes of an episode (default: 5)")
    parser.add_argument("--shot", type=int, nargs="+", default=[1, 5], metavar="N", help="support images per class (default: 1 5)")
    parser.add_argument("--query", type=int, default=15, metavar="N", help="query images per class (default: 15)")
    parser.add_argument("--episodes", type=int, default=600, metavar="N", help="number of episodes (default: 600)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the episodes (default: 0)")
    help_ = "one or more methods (default: prototype linear, and tip if the model has a text tower)"
    parser.add_argument("--method", nargs="+", metavar="NAME", help=help_)
    groups = parser.add_mutually_exclusive_group()
    groups.add_argument(
        "--groups",
        type=command_line.path,
        metavar="CSV",
        help="table with columns path,group: images that belong together, such as a patient's",
    )
    groups.add_argument("--group-pattern", metavar="REGEX", help="pattern that finds the group in each file name")
    parser.add_argument(
        "--out", type=command_line.path, metavar="FOLDER", help="write fewshot_curve.csv, fewshot_curve.png and episodes.csv"
    )
    help_ = "also write features.npz into --out: features, labels, groups, names and classes"
    parser.add_argument("--features", action="store_true", help=help_)
    parser.add_argument("--force", action="store_true", help="overwrite files with other content")
    _add_shared(parser)
    return parser


def _add_shared(parser: argparse.ArgumentParser) -> None:
    """Add class texts and model arguments."""
    texts = parser.add_mutually_exclusive_group()
    help_ = "for tip and zero_shot: JSON {class: sentence or sentences} of all classes"
    texts.add_argument("--class-texts", type=command_line.path_text, metavar="FILE", help=help_)
    help_ = "sentences with {class_name}, whose features are averaged (default: one in the text tower's language)"
    texts.add_argument("--template", nargs="+", metavar="TEMPLATE", help=help_)
    model_arguments.add_model_arguments(parser)


def predict(arguments: argparse.Namespace) -> int:
    """Read and check all tasks, encode, predict, write. Returns 2 if a query image could not be read."""
    output_file.check_target(arguments.result, "RESULT", (".csv",))
    from clipzoo.config.plugins import import_plugins

    import_plugins(arguments.plugins)
    from clipzoo.datasets.batches import image_list
    from clipzoo.fewshot import prediction, tasks
    from clipzoo.inference.load import load_one
    from clipzoo.runtime import progress
    from clipzoo.runtime.log import make_console, make_log

    started = time.monotonic()
    probe = prediction.probe_of(arguments.method, arguments.temperature)
    prediction.check_texts_are_read([probe], arguments.class_texts, arguments.template)
    console = make_console()
    log = make_log(console, None)
    found = tasks.read_tasks(arguments.folder, lambda total: progress.shown("checking", total, console, log))
    classes = list(dict.fromkeys(name for task in found for name in task.classes))
    texts = prediction.class_sentences(classes, arguments.class_texts, arguments.template) if probe.needs_text else None
    total = sum(len(task.support) + len(task.query) for task in found)
    with model_arguments.warnings_in_a_line():
        loaded = load_one(arguments.checkpoint, **model_arguments.loading(arguments))
        prediction.require_text_side(loaded, [probe])
        with progress.shown("encoding", total, console, log) as advance:
            predicted = prediction.predict(
                loaded,
                found,
                probe,
                _store(),
                sentences=None if texts is None else dict(zip(classes, texts, strict=True)),
                batch_size=arguments.batch_size,
                num_workers=image_list.workers(arguments.workers, total),
                progress=advance,
            )
    output_file.write_new(arguments.result, predicted.csv_content(), "RESULT", arguments.force)
    command_line.show("\n".join(summary(loaded, found, probe.name, predicted, time.monotonic() - started)))
    for note in predicted.notes():
        command_line.say(f"note: {note}")
    for problem in predicted.failed:
        command_line.say(f"error: {problem}")
    left_out = f", unreadable query images skipped: {len(predicted.failed)}" if predicted.failed else ""
    command_line.say(f"written: {arguments.result}{left_out}")
    return 2 if predicted.failed else 0


def _store() -> FeatureStore:
    """The user's feature store; prints a note if nothing can be kept."""
    from clipzoo.features.store import FeatureStore

    store = FeatureStore.of("auto")
    if store.why:
        command_line.say(f"note: features are not kept: {store.why}")
    return store


def summary(loaded: LoadedModel, found: list[Task], method: str, predicted: Predicted, seconds: float) -> list[str]:
    """A summary in a few lines."""
    support, query = sum(len(task.support) for task in found), sum(len(task.query) for task in found)
    ways = sorted({len(task.classes) for task in found})
    each = f"{ways[0]}" if len(ways) == 1 else f"{ways[0]} to {ways[-1]}"
    chosen = "; ".join(predicted.chosen()[:5]) or "nothing to choose"
    cached = f", {predicted.num_cached} of them from the cache" if predicted.num_cached else ""
    return [
        loaded.source,
        f"{len(found)} task{'s' * (len(found) != 1)} of {each} classes: {support} support and {query} query images{cached}",
        f"method {method}: {chosen}",
        f"{sum(len(result.rows) for result in predicted.results)} images predicted in {seconds:.1f} s",
    ]


def evaluate(arguments: argparse.Namespace) -> None:
    """Read the folders, encode every image once, run the episodes, show and write the result."""
    from clipzoo.config.plugins import import_plugins
    from clipzoo.errors import ConfigError, shortened

    if arguments.features and arguments.out is None:
        raise ConfigError("--features: written to the folder of --out. Pass --out as well")
    if arguments.out is not None and arguments.out.exists() and not arguments.out.is_dir():
        raise ConfigError(f"--out: {arguments.out} is a file. Pass a folder")
    import_plugins(arguments.plugins)
    from clipzoo.fewshot import episodes, prediction
    from clipzoo.inference.load import load_one
    from clipzoo.runtime import progress
    from clipzoo.runtime.log import make_console, make_log

    plan = episodes.Plan(arguments.way, tuple(arguments.shot), arguments.query, arguments.episodes, arguments.seed)
    probes = None if arguments.method is None else [prediction.probe_of(method) for method in arguments.method]
    if probes is not None:
        twice = next((name for name in arguments.method if arguments.method.count(name) > 1), None)
        if twice is not None:
            raise ConfigError(f"--method: {twice} is listed twice. List it once")
        prediction.check_texts_are_read(probes, arguments.class_texts, arguments.template)
    data = _dataset(arguments)
    data.require_classes("Episodes require")
    pool = episodes.EpisodePool(data.labels, [case.group for case in data.cases], data.classes, plan)
    sentences = prediction.class_sentences(data.classes, arguments.class_texts, arguments.template)
    console = make_console()
    log = make_log(console, None)
    for note in (*data.notes, *pool.notes):
        log.info(f"note: {note}")
    with model_arguments.warnings_in_a_line():
        loaded = load_one(arguments.checkpoint, **model_arguments.loading(arguments))
        usable = [data.classes[label] for label in pool.usable]
        trained = [name for name in usable if name in loaded.classes]
        if trained:
            log.warning(
                f"warning: optimistic: the model was trained on {len(trained)} of these {len(usable)} classes ({shortened(trained)}). "
                "For its accuracy on new classes, pass folders of classes that it was not trained on"
            )
        if probes is None:
            names = ["prototype", "linear", *(["tip"] if prediction.has_text_side(loaded) else [])]
            probes = [prediction.probe_of(name) for name in names]
            prediction.check_texts_are_read(probes, arguments.class_texts, arguments.template)
        prediction.require_text_side(loaded, probes)
        features = _features(arguments, loaded, data, console, log)
        text, texts = None, []
        if any(probe.needs_text for probe in probes):
            texts = sentences or prediction.default_sentences(loaded, data.classes)
            text = prediction.text_features(loaded, texts)
    with progress.shown("episodes", plan.episodes, console, log, unit="episodes") as advance:
        scale = prediction.logit_scale_of(loaded)
        points = episodes.evaluate(features, pool, probes, text=text, logit_scale=scale, progress=advance)
    drawn = f"{plan.episodes} episodes of {plan.way} out of {len(pool.usable)} classes, {plan.query} queries per class"
    notes = episodes.remarks(points)
    command_line.show("\n".join([loaded.source, f"{len(data)} images; {drawn}", "", table(points), *(f"note: {note}" for note in notes)]))
    if arguments.out is not None:
        about = _about(arguments, loaded.source, pool, data, trained, notes, texts)
        _write(arguments, points, pool, data, features, about)


def _dataset(arguments: argparse.Namespace) -> ImageFolderDataset:
    from clipzoo.datasets.image_folder import ImageFolderDataset

    groups = None if arguments.groups is None else str(arguments.groups)
    return ImageFolderDataset(str(arguments.data), template="{class_name}", groups=groups, group_pattern=arguments.group_pattern)


def _features(
    arguments: argparse.Namespace, loaded: LoadedModel, data: ImageFolderDataset, console: Console, log: logging.Logger
) -> np.ndarray:
    """``[N, D]`` features of all images.

    Raises:
        DataError: Some cannot be read; all of them are listed.
    """
    from clipzoo.datasets.batches import image_list
    from clipzoo.errors import DataError
    from clipzoo.inference.files import encode_files
    from clipzoo.runtime import progress

    paths = [data.path_of(row) for row in range(len(data))]
    options = {"batch_size": arguments.batch_size, "num_workers": image_list.workers(arguments.workers, len(paths))}
    with progress.shown("encoding", len(paths), console, log) as advance:
        encoded = encode_files(loaded, paths, _store(), progress=advance, **options)
    if encoded.failed:
        raise DataError("\n".join(encoded.failed[row] for row in sorted(encoded.failed)))
    return encoded.features


def table(points: list[Point]) -> str:
    """Table of mean accuracies with intervals: one row per method and shot."""
    from clipzoo.text_tables import aligned

    rows = [[p.method, f"{p.shot}", f"{p.mean:.4f}", "{:.4f} … {:.4f}".format(*p.interval), f"{p.sd:.4f}"] for p in points]
    meaning = "95 % interval: of the mean accuracy, over the random choice of episodes from these images, not over other images"
    return f"{aligned(['method', 'shot', 'accuracy', '95 % interval', 'sd'], rows)}\n\n{meaning}"


def _write(
    arguments: argparse.Namespace,
    points: list[Point],
    pool: EpisodePool,
    data: ImageFolderDataset,
    features: np.ndarray,
    about: dict[str, object],
) -> None:
    """Write the tables, then what they are about, with their digests."""
    from clipzoo.fewshot import episodes, shot_curve
    from clipzoo.records.few_shot import ABOUT_FILE, CURVE_FILE, EPISODES_FILE, AboutEpisodes

    folder = arguments.out
    contents = {
        CURVE_FILE: episodes.curve_csv(points, pool.plan),
        EPISODES_FILE: episodes.episodes_csv(points, pool, data.classes),
        "fewshot_curve.png": shot_curve.shot_curve(points, pool.plan, arguments.data.resolve().name),
    }
    if arguments.features:
        contents["features.npz"] = _archive(features, data)
    for name, content in contents.items():
        output_file.write_new(folder / name, content, "--out", arguments.force)
    digests = {name: hashlib.sha256(contents[name]).hexdigest() for name in (CURVE_FILE, EPISODES_FILE)}
    AboutEpisodes(**about, files=digests).write(folder)
    command_line.say(f"written: {', '.join(str(folder / name) for name in (*contents, ABOUT_FILE))}")


def _about(
    arguments: argparse.Namespace,
    model: str,
    pool: EpisodePool,
    data: ImageFolderDataset,
    trained: list[str],
    notes: list[str],
    texts: Sequence[Sequence[str]],
) -> dict[str, object]:
    """What the tables are about: the fields of ``AboutEpisodes``, without the digests."""
    import numpy as np

    from clipzoo.runtime.environment import environment

    rows, around = np.flatnonzero(np.isin(data.labels, pool.usable)), environment()
    return {
        "model": model,
        "data": arguments.data.resolve().name,
        "images": len(rows),
        "groups": len({data.cases[row].group for row in rows}),
        "classes": [data.classes[label] for label in pool.usable],
        "query": pool.plan.query,
        "seed": pool.plan.seed,
        "notes": [*data.notes, *pool.notes, *notes],
        "texts": {data.classes[label]: list(texts[label]) for label in pool.usable} if texts else {},
        "versions": {"clipzoo": around["clipzoo"], **around["packages"]},
        "trained_classes": trained,
    }


def _archive(features: np.ndarray, data: ImageFolderDataset) -> bytes:
    """What scikit-learn needs for the same numbers."""
    import io

    import numpy as np

    content = io.BytesIO()
    columns = {"groups": [case.group for case in data.cases], "images": [case.id for case in data.cases], "classes": list(data.classes)}
    np.savez(content, features=features, labels=data.labels, **{name: np.array(values) for name, values in columns.items()})
    return content.getvalue()
