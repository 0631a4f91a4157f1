"""Arguments of the commands that use a model, and its warnings as one line each."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from clipzoo.cli import command_line

SOURCE = (
    "a checkpoint or its folder, a CLIP's weights (OpenAI, open_clip, transformers, Chinese-CLIP), clip:ViT-B/32, "
    "openclip:<name>/<tag>, hf:<organisation>/<name> or another name from clipzoo models"
)


def add_model_arguments(parser: argparse.ArgumentParser, batch_size: int = 64) -> None:
    """Add ``--device`` and the arguments for running a model there."""
    add_loading_arguments(parser)
    help_ = f"images encoded together (default: {batch_size})"
    parser.add_argument("--batch-size", type=positive, default=batch_size, metavar="N", help=help_)
    parser.add_argument(
        "--workers", type=at_least_0, metavar="N", help="processes that read images (default: depends on the number of images)"
    )


def add_loading_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--device`` and the other arguments of ``loading``."""
    parser.add_argument("--device", default="auto", help="auto (the default), cpu, cuda, cuda:1 or mps")
    help_ = "precision of the computation: fp32, bf16, fp16, or auto, as in training (default)"
    parser.add_argument("--precision", choices=["auto", "fp32", "bf16", "fp16"], default="auto", help=help_)
    help_ = "activation, for weights files that do not define it: yes for OpenAI's weights, no for most others"
    parser.add_argument("--quick-gelu", choices=["yes", "no"], help=help_)
    add_plugins_argument(parser)


def add_plugins_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--plugins``: a checkpoint imports nothing by itself."""
    help_ = "modules to import first, if the checkpoint's model needs them; only pass modules you trust"
    parser.add_argument("--plugins", nargs="*", default=[], metavar="MODULE", help=help_)


def loading(arguments: argparse.Namespace) -> dict:
    """Keyword arguments for ``clipzoo.load``."""
    quick_gelu = None if arguments.quick_gelu is None else arguments.quick_gelu == "yes"
    return {"device": arguments.device, "precision": arguments.precision, "quick_gelu": quick_gelu, "plugins": arguments.plugins}


def positive(text: str) -> int:
    """Convert to a whole number of 1 or more."""
    return _number(text, 1)


def at_least_0(text: str) -> int:
    """Convert to a whole number of 0 or more."""
    return _number(text, 0)


def _number(text: str, least: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of {least} or more")
    return value


@contextmanager
def warnings_in_a_line() -> Iterator[None]:
    """Show warnings as ``warning: …``, once each and without their location in the code."""
    seen = set()

    def show(message: Warning | str, *_: object) -> None:
        if str(message) not in seen:  # all folds' models truncate a text in the same way
            seen.add(str(message))
            command_line.say(f"warning: {message}")

    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = show
        yield
