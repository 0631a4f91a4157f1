"""``tools/predict.py CHECKPOINT IMAGES… [--texts …]``: the most probable classes of images."""

from __future__ import annotations

import argparse
import glob
import os
from pathlib import Path
from typing import TYPE_CHECKING

from clipzoo.cli import command_line, model_arguments, output_file

if TYPE_CHECKING:
    from clipzoo.inference.model import Classification

DESCRIPTION = """Classify images by similarity to texts. CHECKPOINT is:
  a checkpoint of a training, or the folder of its fold;
  a work dir: the mean probability of all finished folds;
  the weights of a CLIP as OpenAI, open_clip, transformers or Chinese-CLIP save them;
  a published name, clip:ViT-B/32 or openclip:<name>/<tag>.
Without --texts, the classes and sentences of the model's training are used."""


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    parser = command_line.parser("predict", DESCRIPTION)
    parser.add_argument("checkpoint", metavar="CHECKPOINT", type=command_line.path_text, help=model_arguments.SOURCE)
    parser.add_argument(
        "images",
        metavar="IMAGE",
        type=command_line.path_text,
        nargs="+",
        help="files, patterns such as 'scans/*.png', or folders at any depth",
    )
    texts = parser.add_mutually_exclusive_group()
    texts.add_argument("--texts", nargs="+", metavar="TEXT", help="names or sentences, one per class")
    help_ = "the same from a file: one per line, or JSON with a list or {class: sentence or sentences}"
    texts.add_argument("--texts-file", type=command_line.path, metavar="FILE", help=help_)
    help_ = "sentences with {class_name}, filled with every text and averaged; auto: one in the text tower's language"
    parser.add_argument("--template", nargs="+", metavar="TEMPLATE", help=help_)
    parser.add_argument("--no-cut", action="store_true", help="refuse texts that are longer than the model's context")
    parser.add_argument("--top", type=model_arguments.positive, default=5, metavar="K", help="classes to show for each image (default: 5)")
    parser.add_argument(
        "--by-folder",
        action="store_true",
        help="the images of one folder are one case (a patient), for a model that was trained with data.views",
    )
    help_ = "write all probabilities to a table: image, prediction, p_<class>… (findings: without prediction)"
    parser.add_argument("--csv", type=command_line.path, metavar="FILE", help=help_)
    parser.add_argument("--force", action="store_true", help="overwrite a file with other content")
    model_arguments.add_model_arguments(parser)
    command_line.run(predict, parser.parse_args(arguments))


def predict(arguments: argparse.Namespace) -> None:
    """Find images, classify them, show and write the result."""
    output_file.check_target(arguments.csv, "--csv", (".csv",))
    images = image_files(arguments.images)
    texts = arguments.texts if arguments.texts_file is None else read_texts(arguments.texts_file)
    cases = by_folder(images) if arguments.by_folder else None
    with model_arguments.warnings_in_a_line():
        result = classify(arguments, images if cases is None else list(cases.values()), texts)
    images = images if cases is None else list(cases)
    command_line.show(table(images, result, arguments.top))
    if arguments.csv is not None:
        output_file.write_new(arguments.csv, csv_content(images, result), "--csv", arguments.force)
        command_line.say(f"written: {arguments.csv}")


def image_files(given: list[str]) -> list[str]:
    """The images given on the command line, without duplicates, in order; images of folders are sorted.

    Raises:
        DataError: Some do not exist (all of them are listed), a pattern matches nothing, or a folder contains no image.
    """
    from clipzoo.errors import DataError

    found: dict[str, None] = {}
    missing = []
    for name in given:
        if os.path.isdir(name):
            found |= dict.fromkeys(_below(name))
        elif os.path.isfile(name):
            found[name] = None
        elif glob.has_magic(name) and (matches := sorted(glob.glob(name, recursive=True))):
            for match in matches:
                found |= dict.fromkeys(_below(match) if os.path.isdir(match) else [match])
        else:
            missing.append(name)
    if missing:
        names = ", ".join(missing)
        what = f"these {len(missing)} do not exist" if len(missing) > 1 else "no such file"
        what = "no image matches" if glob.has_magic(missing[0]) and len(missing) == 1 else what
        raise DataError(f"{names}: {what}. Nothing was computed")
    return list(found)


def _below(folder: str) -> list[str]:
    """The images at any depth below ``folder``."""
    from clipzoo.datasets.files.folders import is_image, supported, walk
    from clipzoo.errors import DataError

    found = sorted(entry.path for entry in walk(folder) if is_image(entry.path))
    if not found:
        raise DataError(f"{folder}: no images in this folder. Supported: {supported()}")
    return found


def by_folder(images: list[str]) -> dict[str, list[str]]:
    """The images of each folder, by its path as it was first written."""
    found: dict[str, list[str]] = {}
    written: dict[str, str] = {}
    for image in images:
        folder = os.path.dirname(image) or "."
        found.setdefault(written.setdefault(os.path.realpath(folder), folder), []).append(image)
    return found


def read_texts(path: Path) -> list[str] | dict[str, list[str]]:
    """Read texts from a file: lines, or JSON if its suffix is ``.json``.

    Raises:
        DataError: It cannot be read, or has another form.
    """
    from clipzoo.errors import DataError
    from clipzoo.files import json_kind, read_json, read_text

    if path.suffix.lower() != ".json":
        lines = [line.strip() for line in read_text(path).splitlines()]
        return [line for line in lines if line]
    content = read_json(path)
    texts = list(content.values()) if isinstance(content, dict) else content
    if not isinstance(texts, list) or not all(isinstance(text, str) or (content is not texts and _is_list(text)) for text in texts):
        raise DataError(f"{path}: must be a list of texts, or an object {{class: sentence or sentences}}, not {json_kind(content)}")
    return content


def _is_list(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def classify(arguments: argparse.Namespace, images: list[str] | list[list[str]], texts: list[str] | dict | None) -> Classification:
    """Classify with one model, or with the mean of all finished folds of a work dir.

    Raises:
        DataError: There are no texts: none were given, and the model has no classes.
    """
    from clipzoo.datasets.batches import image_list
    from clipzoo.errors import DataError
    from clipzoo.inference.ensemble import FoldEnsemble
    from clipzoo.inference.load import load

    loaded = load(arguments.checkpoint, **model_arguments.loading(arguments))
    if texts is None and not loaded.classes:
        raise DataError(f"{loaded.source}: has no classes of its own. Pass --texts or --texts-file")
    folds, number = 1, sum(len(image) if isinstance(image, list) else 1 for image in images)
    if isinstance(loaded, FoldEnsemble):
        folds = len(loaded.members)
        command_line.say(loaded.source)
    with command_line.progress("images", number * folds) as count:
        return loaded.classify(
            images,
            texts,
            arguments.template,
            allow_overlong=not arguments.no_cut,
            batch_size=arguments.batch_size,
            num_workers=image_list.workers(arguments.workers, number),
            progress=count,
        )


def table(images: list[str], result: Classification, top: int) -> str:
    """One block of lines per image, the most probable class first."""
    from clipzoo.text import visible
    from clipzoo.text_tables import aligned, terminal_columns

    best = result.top(top)
    width = max(terminal_columns(visible(name)) for name in ["class", *result.classes])

    def padded(name: str) -> str:
        return visible(name) + " " * (width - terminal_columns(visible(name)))

    rows = []
    for image, classes in zip(images, best, strict=True):
        rows += [[image if rank == 0 else "", padded(name), f"{p:.4f}"] for rank, (name, p) in enumerate(classes)]
    return aligned(["image", padded("class"), "probability"], rows)


def csv_content(images: list[str], result: Classification) -> bytes:
    """``image,prediction,p_<class>…``, of findings without ``prediction``; probabilities keep all nine digits of a float32."""
    from clipzoo.text import csv_bytes

    predictions = [[] for _ in images] if result.multi_label else [[name] for name in result.predictions]
    rows = [["image", *([] if result.multi_label else ["prediction"]), *(f"p_{name}" for name in result.classes)]]
    for image, prediction, row in zip(images, predictions, result.probabilities.tolist(), strict=True):
        rows.append([image, *prediction, *(f"{p:.9g}" for p in row)])
    return csv_bytes(rows)
