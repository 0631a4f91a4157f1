"""Reading other libraries' JSON files: what is missing or of another kind is one clear line."""

from __future__ import annotations

from pathlib import Path

from clipzoo.errors import BuildError, DataError
from clipzoo.files import read_json


def read_object(path: Path, where: str) -> dict:
    """A JSON file that holds an object.

    Raises:
        BuildError: It is missing, is not JSON, or is no object.
    """
    try:
        value = read_json(path)
    except DataError as error:
        raise BuildError(f"{where}: {error}") from error
    return as_object(value, f"{where}: {path.name}")


def as_object(value: object, where: str) -> dict:
    """The value itself.

    Raises:
        BuildError: It is no JSON object.
    """
    if not isinstance(value, dict):
        raise BuildError(f"{where} is missing, or is no JSON object")
    return value


def three_numbers(values: object, where: str) -> tuple[float, float, float]:
    """A mean or standard deviation of three channels.

    Raises:
        BuildError: It is none.
    """
    if not (isinstance(values, (list, tuple)) and len(values) == 3 and all(isinstance(value, (int, float)) for value in values)):
        raise BuildError(f"{where}={values!r} is not three numbers")
    return tuple(float(value) for value in values)


def check_sizes(said: dict[str, tuple[object, object]], where: str) -> None:
    """Compare what a config says with what the tensors have.

    Args:
        said: Option to both values, the config's first.
        where: First words of the message.

    Raises:
        BuildError: With all options that differ.
    """
    wrong = [f"{name} is {value}, the tensors have {found}" for name, (value, found) in said.items() if value != found]
    if wrong:
        raise BuildError(f"{where} does not fit the weights beside it: {'; '.join(wrong)}")
