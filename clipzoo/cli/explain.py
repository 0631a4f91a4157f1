"""``tools/explain.py CHECKPOINT IMAGES… [--text …] [--against …]``: which part of an image speaks for a text or a class."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from clipzoo.cli import command_line, model_arguments
from clipzoo.cli.predict import image_files

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clipzoo.explain import Explanation
    from clipzoo.explain.explaining import Loaded
    from clipzoo.explain.folder import Entry

DESCRIPTION = """Show which part of an image speaks for a sentence (--text), for the difference between two sentences (--text, --against),
or for a class of the model's training: the most probable one, the --top most probable ones, or --class.
Grad-CAM for convolutional image towers, relevance through attention for transformers. CHECKPOINT is what predict takes; for a work dir
it is the mean of the maps of all finished folds.

Writes a new folder: a picture for each image and text, explanations.json with the scores, and explanations.npz with the maps."""


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    parser = command_line.parser("explain", DESCRIPTION)
    parser.add_argument("checkpoint", metavar="CHECKPOINT", type=command_line.path_text, help=model_arguments.SOURCE)
    help_ = "files, patterns such as 'scans/*.png', or folders at any depth"
    parser.add_argument("images", metavar="IMAGE", type=command_line.path_text, nargs="+", help=help_)
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--text", help="sentence to explain: what makes the image similar to it")
    chosen.add_argument("--class", dest="class_name", metavar="NAME", help="class of the training, instead of the predicted one")
    chosen.add_argument("--top", type=model_arguments.positive, default=1, metavar="K", help="classes to explain per image (default: 1)")
    parser.add_argument("--against", metavar="TEXT", help="sentence (with --text) or class (with --class) to subtract")
    help_ = "grad_cam, relevance, or auto (the default): the one that fits the image tower"
    parser.add_argument("--method", choices=["auto", "grad_cam", "relevance"], default="auto", help=help_)
    help_ = "new folder (default: explanations)"
    parser.add_argument("--out", type=command_line.path, default=Path("explanations"), metavar="FOLDER", help=help_)
    parser.add_argument("--no-cut", action="store_true", help="refuse texts that are longer than the model's context")
    help_ = "longest side of the pictures; larger images are scaled down (default: 1024)"
    parser.add_argument("--max-side", type=model_arguments.positive, default=1024, metavar="PIXELS", help=help_)
    model_arguments.add_model_arguments(parser, batch_size=16)
    command_line.run(explain, parser.parse_args(arguments))


def explain(arguments: argparse.Namespace) -> None:
    """Find images, explain them, write the folder, show the scores."""
    from clipzoo.errors import ConfigError
    from clipzoo.explain.folder import write_folder
    from clipzoo.files import check_new
    from clipzoo.inference.ensemble import FoldEnsemble
    from clipzoo.inference.load import load

    if arguments.against is not None and arguments.text is None and arguments.class_name is None:
        raise ConfigError("--against: nothing to subtract from. Pass --text with a sentence, or --class with a class")
    check_new(arguments.out)
    images = image_files(arguments.images)
    loaded = load(arguments.checkpoint, **model_arguments.loading(arguments))
    if isinstance(loaded, FoldEnsemble):
        command_line.say(loaded.source)
    with model_arguments.warnings_in_a_line():
        explanations, probabilities = _explained(arguments, loaded, images)
    with command_line.progress("pictures", len(images) * len(explanations)) as count:
        entries = write_folder(
            arguments.out, loaded.source, images, explanations, probabilities, longest=arguments.max_side, progress=count
        )
    command_line.show(table(entries))
    command_line.say(f"written: {arguments.out}")


def _explained(arguments: argparse.Namespace, loaded: Loaded, images: list[str]) -> tuple[list[Explanation], list[list[float]] | None]:
    """The explanations that the arguments ask for, and the probabilities of predicted classes.

    Raises:
        DataError: No text was given, and the model has no classes.
    """
    from clipzoo.datasets.batches import image_list
    from clipzoo.errors import DataError
    from clipzoo.explain import explain as explain_text
    from clipzoo.explain import explain_classes

    workers = image_list.workers(arguments.workers, len(images))
    options = {"method": arguments.method, "batch_size": arguments.batch_size, "num_workers": workers}
    total = len(images) * _num_members(loaded)
    if arguments.text is not None:
        with command_line.progress("maps", total) as count:
            options |= {"allow_overlong": not arguments.no_cut, "progress": count}
            return [explain_text(loaded, images, arguments.text, arguments.against, **options)], None
    if not loaded.classes:
        raise DataError(f"{loaded.source}: has no classes of its own. Pass --text")
    if arguments.class_name is not None:
        with command_line.progress("maps", total) as count:
            return [explain_classes(loaded, images, arguments.class_name, arguments.against, progress=count, **options)], None
    best = _most_probable(arguments, loaded, images, workers)
    explanations = []
    for rank, classes in enumerate(best):
        with command_line.progress(f"maps of rank {rank + 1}" if len(best) > 1 else "maps", total) as count:
            explanations.append(explain_classes(loaded, images, [name for name, _ in classes], progress=count, **options))
    return explanations, [[probability for _, probability in classes] for classes in best]


def _most_probable(arguments: argparse.Namespace, loaded: Loaded, images: list[str], workers: int) -> list[list[tuple[str, float]]]:
    """For every rank up to ``--top``, the class of each image and its probability."""
    with command_line.progress("classes", len(images) * _num_members(loaded)) as count:
        result = loaded.classify(images, batch_size=arguments.batch_size, num_workers=workers, progress=count)
    return list(zip(*result.top(arguments.top), strict=True))


def _num_members(loaded: Loaded) -> int:
    from clipzoo.inference.ensemble import FoldEnsemble

    return len(loaded.members) if isinstance(loaded, FoldEnsemble) else 1


def table(entries: Sequence[Entry]) -> str:
    """A line per picture."""
    from clipzoo.text_tables import aligned

    with_probability = entries[0].probability is not None
    header = ["image", "text" if not with_probability else "class", *(["probability"] if with_probability else []), "score", "picture"]
    rows, last = [], None
    for entry in entries:
        target = entry.target if entry.against is None else f"{entry.target} − {entry.against}"
        probability = [f"{entry.probability:.4f}"] if with_probability else []
        rows.append(["" if entry.image == last else entry.image, target, *probability, f"{entry.score:.4f}", entry.picture])
        last = entry.image
    return aligned(header, rows)
