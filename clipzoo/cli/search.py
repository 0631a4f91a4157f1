"""``tools/search.py CHECKPOINT FOLDER "query"``: find the images of a folder most similar to a text or an image."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from clipzoo.cli import command_line, model_arguments, output_file

if TYPE_CHECKING:
    import logging

    from rich.console import Console

    from clipzoo.inference.clip import LoadedCLIP
    from clipzoo.inference.index import ImageIndex

DESCRIPTION = """Find the images of a folder that are most similar to texts or to images. The folder is encoded once: its index is kept in
FOLDER/.clipzoo-index, one per model, and later calls only encode new and changed images.
On a terminal, without a query, it prompts for queries."""


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    parser = command_line.parser("search", DESCRIPTION)
    parser.add_argument("checkpoint", metavar="CHECKPOINT", type=command_line.path_text, help=model_arguments.SOURCE)
    parser.add_argument("folder", metavar="FOLDER", type=command_line.path, help="images at any depth")
    parser.add_argument("queries", metavar="QUERY", nargs="*", help="texts to search for")
    parser.add_argument(
        "--image",
        type=command_line.path_text,
        action="append",
        default=[],
        metavar="FILE",
        help="image to search for; may be repeated",
    )
    parser.add_argument("--top", type=model_arguments.positive, default=10, metavar="K", help="images to show for each query (default: 10)")
    parser.add_argument("--contact-sheet", type=command_line.path, metavar="FILE.png", help="draw the images found")
    parser.add_argument("--force", action="store_true", help="overwrite a file with other content")
    parser.add_argument("--rebuild", action="store_true", help="encode all images again")
    model_arguments.add_model_arguments(parser)
    command_line.run(search, parser.parse_args(arguments))


def search(arguments: argparse.Namespace) -> None:
    """Update the index, and answer the queries."""
    from clipzoo.errors import BuildError, ConfigError, DataError

    output_file.check_target(arguments.contact_sheet, "--contact-sheet", (".png",))
    asked = bool(arguments.queries or arguments.image)
    if not asked and not sys.stdin.isatty():
        raise ConfigError('search: no query. Pass a text ("a red car") or --image FILE')
    if not all(query.strip() for query in arguments.queries):
        raise ConfigError("search: a query is empty. Describe what the images should show")
    missing = [name for name in arguments.image if not Path(name).is_file()]
    if missing:
        raise DataError(f"--image: {', '.join(missing)}: no such file")
    from clipzoo.inference import clip
    from clipzoo.inference import index as image_index
    from clipzoo.inference.load import load_one
    from clipzoo.runtime.log import make_console, make_log

    image_index.scan(arguments.folder)  # before the model is loaded
    console = make_console()
    log = make_log(console, None)
    with model_arguments.warnings_in_a_line():
        loaded = load_one(arguments.checkpoint, **model_arguments.loading(arguments))
        if not isinstance(loaded, clip.LoadedCLIP):
            raise BuildError(f"{loaded.source}: is a classifier without a text tower, so it cannot search for texts. Pass a CLIP")
        index = up_to_date(arguments, loaded, console, log)
        if asked:
            answer(arguments, loaded, index)
        else:
            converse(arguments, loaded, index)


def up_to_date(arguments: argparse.Namespace, loaded: LoadedCLIP, console: Console, log: logging.Logger) -> ImageIndex:
    """Update the index of the folder, and log what was done."""
    from clipzoo.inference import index as image_index
    from clipzoo.runtime import progress

    update = image_index.update(
        arguments.folder,
        loaded,
        rebuild=arguments.rebuild,
        batch_size=arguments.batch_size,
        num_workers=arguments.workers,
        progress=lambda total: progress.shown("encoding", total, console, log),
    )
    for message in update.failed.values():
        log.warning(f"warning: {message}")
    for note in update.notes:
        log.info(f"note: {note}")
    parts = [f"{update.encoded} encoded", f"{update.kept} unchanged"]
    parts += [f"{update.removed} removed"] if update.removed else []
    parts += [f"{len(update.failed)} unreadable and skipped"] if update.failed else []
    log.info(f"{len(update.index)} images: {', '.join(parts)}" + (f"  ({update.path})" if update.path else ""))
    return update.index


def answer(arguments: argparse.Namespace, loaded: LoadedCLIP, index: ImageIndex) -> None:
    """Answer all queries of the command line, texts first."""
    import torch

    features = [loaded.encode_text(arguments.queries)] if arguments.queries else []
    features += [loaded.encode_image(arguments.image)] if arguments.image else []
    found = index.search(torch.cat(features).numpy(), arguments.top)
    names = [*arguments.queries, *arguments.image]
    command_line.show("\n\n".join(table(name, entries) for name, entries in zip(names, found, strict=True)))
    if arguments.contact_sheet is None:
        return
    from clipzoo.datasets.files.images import read_image
    from clipzoo.pictures import contact_sheet

    queries = [None] * len(arguments.queries) + [Path(name) for name in arguments.image]
    rows = [
        contact_sheet.Row(name, [(file, arguments.folder / file, score) for file, score in entries], query)
        for name, entries, query in zip(names, found, queries, strict=True)
    ]
    output_file.write_new(arguments.contact_sheet, contact_sheet.contact_sheet(rows, read_image), "--contact-sheet", arguments.force)
    lacking = contact_sheet.lacking(rows)
    if lacking:
        command_line.say(f"note: no installed font has '{lacking[:20]}'; it is drawn as …. Install one, such as Noto Sans CJK")
    command_line.say(f"written: {arguments.contact_sheet}")


def converse(arguments: argparse.Namespace, loaded: LoadedCLIP, index: ImageIndex) -> None:
    """Prompt for queries until the user enters an empty one."""
    while True:
        try:
            query = input("query (empty to end): ").strip()
        except EOFError:
            return
        except UnicodeDecodeError as error:
            command_line.say(f"error: the input is not text in the encoding of the terminal, {error.encoding}")
            continue
        if not query:
            return
        command_line.show(table(query, index.search(loaded.encode_text(query).numpy(), arguments.top)[0]) + "\n")


def table(query: str, found: list[tuple[str, float]]) -> str:
    """The images found, with rank and cosine similarity."""
    from clipzoo.text_tables import aligned

    width = len(str(len(found)))
    rows = [[f"{rank:>{width}}  {name}", f"{score:.4f}"] for rank, (name, score) in enumerate(found, start=1)]
    return query + "\n" + aligned([f"{'':>{width}}  image", "similarity"], rows)
