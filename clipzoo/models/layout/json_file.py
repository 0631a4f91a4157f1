"""Reading of other libraries' JSON files, with one-line errors."""

from __future__ import annotations

from pathlib import Path

from clipzoo.errors import BuildError, DataError
from clipzoo.files import read_json


def read_object(path: Path, where: str) -> dict:
    """Read a JSON file that contains an object.

    Raises:
        BuildError: The file is missing, is not JSON, or does not contain an object.
    """
    try:
        value = read_json(path)
    except DataError as error:
        raise BuildError(f"{where}: {error}") from error
    return as_object(value, f"{where}: {path.name}")


def as_object(value: object, where: str) -> dict:
    """The value itself, if it is a JSON object.

    Raises:
        BuildError: The value is not a JSON object.
    """
    if not isinstance(value, dict):
        raise BuildError(f"{where} is missing, or is not a JSON object")
    return value


def three_numbers(values: object, where: str) -> tuple[float, float, float]:
    """A per-channel mean or standard deviation.

    Raises:
        BuildError: The value is not three numbers.
    """
    if not (isinstance(values, (list, tuple)) and len(values) == 3 and all(isinstance(value, (int, float)) for value in values)):
        raise BuildError(f"{where}={values!r} is not three numbers")
    return tuple(float(value) for value in values)


def check_sizes(pairs: dict[str, tuple[object, object]], where: str) -> None:
    """Compare a config with the tensors.

    Args:
        pairs: Pairs of config value and tensor value, by option.
        where: Start of the message.

    Raises:
        BuildError: Options differ; the message lists all of them.
    """
    wrong = [f"{name} is {value}, but the tensors have {found}" for name, (value, found) in pairs.items() if value != found]
    if wrong:
        raise BuildError(f"{where} does not match the weights in its folder: {'; '.join(wrong)}")
