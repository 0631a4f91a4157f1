"""The search space of ``tune``: ``KEY=low..high``, ``KEY=low..high:log``, or ``KEY=a,b,c``, one for each config key."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipzoo.config import Config
from clipzoo.config.annotations import fits, in_words
from clipzoo.config.checking import check
from clipzoo.config.config_file import content_of, run
from clipzoo.config.keys import Key, keys_of
from clipzoo.config.plugins import import_plugins
from clipzoo.errors import ConfigError
from clipzoo.files import read_json

if TYPE_CHECKING:
    from optuna.trial import Trial

OPTION = "--space"
_LOG = ":log"
_FORMS = "Write KEY=low..high, KEY=low..high:log, or KEY=a,b,c"
# Keys that decide which cases are scored and how, so that the scores of trials could not be compared; and the one that is mere luck.
_FIXED = ("splits", "evaluation", "runtime.seed")


@dataclass(frozen=True)
class Range:
    """A number from an interval.

    Attributes:
        key: Dotted config key.
        low: Smallest value.
        high: Largest value, included.
        is_log: Whether the logarithm is uniform, instead of the value.
        is_whole: Whether the values are whole numbers.
    """

    key: str
    low: float
    high: float
    is_log: bool
    is_whole: bool

    def suggest(self, trial: Trial) -> float | int:
        """The value of a trial."""
        return (trial.suggest_int if self.is_whole else trial.suggest_float)(self.key, self.low, self.high, log=self.is_log)

    @property
    def ends(self) -> tuple[str, ...]:
        """Values to be checked, as they are written after ``KEY=``."""
        return repr(self.low), repr(self.high)

    def __str__(self) -> str:
        return f"{self.key}={self.low!r}..{self.high!r}{_LOG if self.is_log else ''}"


@dataclass(frozen=True)
class Choice:
    """One of several values.

    Attributes:
        key: Dotted config key.
        ends: The values, as they are written after ``KEY=``.
    """

    key: str
    ends: tuple[str, ...]

    def suggest(self, trial: Trial) -> str:
        """The value of a trial."""
        return trial.suggest_categorical(self.key, self.ends)

    def __str__(self) -> str:
        return f"{self.key}={','.join(self.ends)}"


Dimension = Range | Choice


def parse_space(words: Sequence[str], config: str, options: Sequence[str] = ()) -> list[Dimension]:
    """The dimensions, each checked against the config: the keys exist, and the ends of every range are allowed.

    Args:
        words: ``KEY=…``, or JSON and Python files of such keys.
        config: Config file or name.
        options: Overrides for all trials.

    Raises:
        ConfigError: A word has another form, a range is empty, a key is unknown, twice or not to be tuned, or a value is not allowed.
    """
    base = Config.load(config, options)
    import_plugins(base.get("plugins", []))
    check(base)
    keys = keys_of(base)
    found = [_dimension(text, keys) for word in words for text in ([word] if "=" in word else _read(Path(word)))]
    for dimension in found:
        if [other.key for other in found].count(dimension.key) > 1:
            raise ConfigError(f"{OPTION} {dimension}: '{dimension.key}' is given twice")
    for dimension in found:
        for value in dimension.ends:
            _check_value(found, dimension, value, config, options)
    return found


def overrides(values: Mapping[str, Any]) -> list[str]:
    """The values of a trial as ``--cfg-options`` takes them."""
    return [f"{key}={value}" if isinstance(value, str) else f"{key}={value!r}" for key, value in values.items()]


def _dimension(text: str, keys: Mapping[str, Key]) -> Dimension:
    key, _, values = text.partition("=")
    where = f"{OPTION} {text}"
    if any(key == fixed or key.startswith(f"{fixed}.") for fixed in _FIXED):
        raise ConfigError(f"{where}: '{key}' cannot be tuned: the trials must be scored on the same cases in the same way")
    low, dots, high = values.removesuffix(_LOG).partition("..")
    if not dots:
        choices = tuple(_split(values))
        if len(choices) < 2 or not all(choices) or len({*choices}) < len(choices):
            raise ConfigError(f"{where}: {in_words(values)} is not two or more different values. {_FORMS}")
        return Choice(key, choices)
    ends = [_number(end, where) for end in (low, high)]
    is_log = values.endswith(_LOG)
    if not ends[0] < ends[1]:
        raise ConfigError(f"{where}: empty range, {ends[0]!r} is not below {ends[1]!r}")
    if is_log and ends[0] <= 0:
        raise ConfigError(f"{where}: a logarithmic range must start above 0, not at {ends[0]!r}")
    annotation = keys.get(key, Key()).annotation
    is_whole = all(isinstance(end, int) for end in ends) and (annotation is Any or not fits(ends[0] + 0.5, annotation))
    return Range(key, *(ends if is_whole else map(float, ends)), is_log=is_log, is_whole=is_whole)


def _number(text: str, where: str) -> float | int:
    try:
        value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError):
        value = None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ConfigError(f"{where}: {in_words(text)} is not a number. {_FORMS}")
    return value


def _split(text: str) -> list[str]:
    """Split at commas, except inside quotes and brackets.

    >>> _split("resnet18,[1, 2],'a,b'")
    ['resnet18', '[1, 2]', "'a,b'"]
    """
    parts, depth, quote = [""], 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        else:
            depth += (character in "([{") - (character in ")]}")
        if character == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def _read(path: Path) -> Iterable[str]:
    """The dimensions in a JSON file, or in ``space`` of a Python file, as text."""
    content = run(path, content_of(path)).get("space") if path.suffix == ".py" else None
    if path.suffix == ".json":
        content = read_json(path)
    elif path.suffix != ".py":
        raise ConfigError(f"{OPTION} {path}: neither KEY=… nor a .json or .py file. {_FORMS}")
    if not isinstance(content, Mapping) or not content:
        raise ConfigError(f"{path}: expected {'space = ' if path.suffix == '.py' else ''}{{'KEY': '1e-5..1e-3:log', 'KEY': [16, 32], …}}")
    for key, values in content.items():
        if not isinstance(values, (str, list, tuple)):
            raise ConfigError(f"{path}: {key}: {in_words(values)} is neither a range such as '1e-5..1e-3:log' nor a list of values")
        yield f"{key}={values}" if isinstance(values, str) else f"{key}={','.join(map(repr, values))}"


def _check_value(space: Sequence[Dimension], dimension: Dimension, value: str, config: str, options: Sequence[str]) -> None:
    """Check one value of a dimension, with the first value of each other."""
    first = [f"{other.key}={value if other is dimension else other.ends[0]}" for other in space]
    try:
        check(Config.load(config, [*options, *first]))
    except ConfigError as error:
        lines = [line.removeprefix("--cfg-options: ").removesuffix("  [--cfg-options]") for line in str(error).splitlines()]
        last = dimension.key.rpartition(".")[2]
        own = [line for line in lines if line.startswith(dimension.key) or f"'{last}'" in line or f"'{dimension.key}'" in line]
        raise ConfigError(f"{OPTION} {dimension}: {(own or lines)[0]}") from error
