"""Shared by all commands: parser, arguments for configs, exit status and output.

An error is one clear line with exit status 2 and no traceback. Names may contain anything: control characters are shown escaped.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TextIO

from clipzoo.commands import typed, typed_launch
from clipzoo.text import visible

if TYPE_CHECKING:
    from clipzoo.config import Config


MOST_JOBS = 256


class _Made(Exception):
    """Carries a parser out of the entry point that made it; see ``parser_of``."""


class Parser(argparse.ArgumentParser):
    """A parser that reports errors like every other error: one line, exit status 2."""

    is_wanted = False  # by parser_of, instead of the arguments

    def parse_args(self, args=None, namespace=None) -> argparse.Namespace:
        """Parse the arguments, unless only the parser is wanted."""
        if Parser.is_wanted:
            raise _Made(self)
        return super().parse_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Report what is wrong with the command line, with a suggestion."""
        from clipzoo.errors import did_you_mean

        message = message.removeprefix("argument ")
        if message.startswith("unrecognized arguments: "):
            unknown = message.partition(": ")[2].split()
            options = [option for action in self._actions for option in action.option_strings]
            named = next((word for word in unknown if word.startswith("-")), unknown[0])
            message = f"{named}: no such argument.{did_you_mean(named.partition('=')[0], options)}"
        message = message if message.endswith("?") else f"{message.rstrip('.')}."
        say(f"error: {message} See {self.prog} --help")
        raise SystemExit(2)

    def _print_message(self, message: str, file: TextIO | None = None) -> None:
        """Write the help text whatever the encoding of the terminal."""
        _write(file or sys.stderr, message)


def parser(command: str, description: str) -> argparse.ArgumentParser:
    """Create a parser with ``--debug``; its usage line shows the command as the user can type it."""
    made = Parser(prog=typed(command), description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return made


def parser_of(main: Callable[[list[str]], None], *arguments: str) -> argparse.ArgumentParser:
    """The parser that the entry point of a command makes; the command itself is not run."""
    Parser.is_wanted = True
    try:
        main(list(arguments))
    except _Made as made:
        return made.args[0]
    finally:
        Parser.is_wanted = False
    raise AssertionError(f"{main.__module__}: parses no arguments")


def add_config_arguments(made: argparse.ArgumentParser) -> None:
    """Add ``CONFIG`` and ``--cfg-options``, as in mmlab's tools."""
    help_ = "config file, or name of a shipped config, e.g. clip/r18_bertzh_digits_5fold"
    made.add_argument("config", metavar="CONFIG", type=path_text, help=help_)
    help_ = "override config values, e.g. optimizer.lr=3e-4 train.epochs=20"
    made.add_argument("--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help=help_)


def add_launcher_argument(made: argparse.ArgumentParser) -> None:
    """Add ``--launcher``, as in mmlab's tools."""
    help_ = f"how several processes are started: pytorch ({typed_launch('pytorch')}) or slurm ({typed_launch('slurm')})"
    made.add_argument("--launcher", choices=["none", "pytorch", "slurm"], default="none", help=help_)


def add_jobs_argument(made: argparse.ArgumentParser, what: str, default: int | None = 1, default_text: str = "1") -> None:
    """Add ``--jobs``; ``what`` is worked on side by side."""
    help_ = (
        f"{what} at the same time, each process with its share of the cores; auto: as many as the machine allows (default: {default_text})"
    )
    made.add_argument("--jobs", type=num_jobs, default=default, metavar="N|auto", help=help_)


def num_jobs(text: str) -> int | str:
    """Convert ``--jobs`` to a number, or to ``'auto'``."""
    if text == "auto":
        return text
    if not (text.isascii() and text.isdecimal() and len(text) < 9 and 1 <= int(text) <= MOST_JOBS):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a whole number from 1 to {MOST_JOBS} nor 'auto'")
    return int(text)


def path(text: str) -> Path:
    """Convert a command-line argument to a path, with ``~`` expanded: the ``type`` of all path arguments."""
    return Path(path_text(text))


def path_text(text: str) -> str:
    """The same as a string, for arguments that may also be something other than a path, or go into a config."""
    from clipzoo.config.annotations import fits, in_words
    from clipzoo.config.arguments import FilePath
    from clipzoo.errors import ConfigError
    from clipzoo.files import expanded

    if not fits(text, FilePath):
        raise argparse.ArgumentTypeError(f"{in_words(text)} is too long for a path")
    try:
        return expanded(text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def default_work_dir(config: Config) -> Path:
    """``work_dirs/<config name>`` in the current folder."""
    return Path("work_dirs") / config.name


def run(command: Callable[[argparse.Namespace], int | None], arguments: argparse.Namespace) -> None:
    """Run a command and exit with its status: 0, 2 for errors that the user can fix, or 128 + signal after Ctrl-C, SIGTERM or SIGHUP."""
    from clipzoo.errors import ClipzooError
    from clipzoo.signals import stopping

    try:
        with stopping():
            status = command(arguments) or 0
    except ClipzooError as error:
        if arguments.debug:
            raise
        say("error: " + str(error).replace("\n", "\n       "))  # align further lines with the first
        status = 2
    except KeyboardInterrupt as stop:
        say("interrupted")
        status = 128 + getattr(stop, "signal", signal.SIGINT)
    except BrokenPipeError:
        sys.stderr.close()
        status = 0
    raise SystemExit(status)


@contextmanager
def never_fatal(what: str) -> Iterator[None]:
    """Show an error of this block in one line, so that it does not end a command whose results are written already.

    Args:
        what: The start of the line, such as ``'warning: the report was not written'``.
    """
    try:
        yield
    except Exception as error:  # drawing and describing depend on fonts, disks and plugins
        say(f"{what}: {_in_a_line(error)}")


def _in_a_line(error: Exception) -> str:
    """The first line of an error; with its type, unless clipzoo wrote the message."""
    from clipzoo.errors import ClipzooError

    line = (str(error).strip().splitlines() or [""])[0]
    return line if isinstance(error, ClipzooError) and line else f"{type(error).__name__}: {line}".removesuffix(": ")


def progress(what: str, total: int, unit: str = "images") -> AbstractContextManager[Callable[[int], None]]:
    """A bar on standard error; see ``clipzoo.runtime.progress.shown``."""
    from clipzoo.runtime.log import make_console
    from clipzoo.runtime.progress import shown_alone

    return shown_alone(what, total, unit, console=make_console())


def say(text: str) -> None:
    """Write text to standard error."""
    _write(sys.stderr, visible(text, keep="\n") + "\n")


def show(text: str) -> None:
    """Write text to standard output."""
    _write(sys.stdout, visible(text, keep="\n") + "\n")


def _write(file: TextIO, text: str) -> None:
    """Write text, as UTF-8 if the stream's encoding cannot represent it."""
    try:
        file.write(text)
    except UnicodeEncodeError:
        file.flush()
        file.buffer.write(text.encode("utf-8", "backslashreplace"))
