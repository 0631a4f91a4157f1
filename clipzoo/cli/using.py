"""What the commands share that use a model: its arguments, files that are not written over, and warnings as one line."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clipzoo.cli import door

SOURCE = (
    "a checkpoint or its folder, a CLIP's weights (OpenAI, open_clip, transformers, Chinese-CLIP), clip:ViT-B/32 or openclip:<name>/<tag>"
)


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """``--device`` and how the model is run there."""
    parser.add_argument("--device", default="auto", help="auto (the default), cpu, cuda, cuda:1 or mps")
    help_ = "of the computation: fp32, bf16, fp16, or auto, as in training (the default)"
    parser.add_argument("--precision", choices=["auto", "fp32", "bf16", "fp16"], default="auto", help=help_)
    help_ = "the activation, for a weights file that does not say it: yes for OpenAI's weights, no for most others"
    parser.add_argument("--quick-gelu", choices=["yes", "no"], help=help_)
    parser.add_argument("--batch-size", type=positive, default=64, metavar="N", help="images that are encoded together (default: 64)")
    parser.add_argument("--workers", type=at_least_0, metavar="N", help="processes that read images (default: by their number)")
    add_plugins_argument(parser)


def add_plugins_argument(parser: argparse.ArgumentParser) -> None:
    """``--plugins``: a checkpoint imports nothing by itself."""
    help_ = "import these modules first, which a checkpoint's model needs; only ones that you trust"
    parser.add_argument("--plugins", nargs="*", default=[], metavar="MODULE", help=help_)


def loading(arguments: argparse.Namespace) -> dict:
    """The keyword arguments of ``clipzoo.load``."""
    quick_gelu = None if arguments.quick_gelu is None else arguments.quick_gelu == "yes"
    return {"device": arguments.device, "precision": arguments.precision, "quick_gelu": quick_gelu, "plugins": arguments.plugins}


def positive(text: str) -> int:
    """A whole number, 1 or more."""
    return _number(text, 1)


def at_least_0(text: str) -> int:
    """A whole number, 0 or more."""
    return _number(text, 0)


def _number(text: str, least: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of {least} or more")
    return value


def check_target(path: Path | None, option: str, suffixes: tuple[str, ...]) -> None:
    """Refuse a file that cannot be written, before anything is computed.

    Raises:
        ConfigError: It is a folder, or its ending says another format.
    """
    from clipzoo.errors import ConfigError

    if path is None:
        return
    if path.is_dir():
        raise ConfigError(f"{option}: {path} is a folder. Give a file")
    if path.suffix.lower() not in suffixes:
        raise ConfigError(f"{option}: {path} must end in {' or '.join(suffixes)}")


def write_new(path: Path, content: bytes, option: str, force: bool) -> None:
    """Write a file whole or not at all, and not over another one.

    Raises:
        DataError: Other content is there and ``force`` is false, or it cannot be written.
    """
    from clipzoo.errors import DataError
    from clipzoo.files import write_atomically

    if path.exists() and not force:
        if path.read_bytes() == content:
            return
        raise DataError(f"{option}: {path} exists with other content. Choose another file, or write over it with --force")
    write_atomically(path, lambda temporary: temporary.write_bytes(content))


@contextmanager
def warnings_in_a_line() -> Iterator[None]:
    """Warnings reach people as ``warning: …``, once each and without a place in the code."""
    seen = set()

    def show(message: Warning | str, *_: object) -> None:
        if str(message) not in seen:  # a text is cut alike by the models of all folds
            seen.add(str(message))
            door.say(f"warning: {message}")

    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = show
        yield
