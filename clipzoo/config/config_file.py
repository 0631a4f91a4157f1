"""Reading of a single config file: its bytes, the names it defines, and the line of each."""

from __future__ import annotations

import ast
import codecs
import os
import stat
import traceback
from collections.abc import Iterable
from pathlib import Path

from clipzoo.config.annotations import in_words
from clipzoo.errors import ConfigError, DataError, did_you_mean
from clipzoo.files import kind_of, read_bytes, reason


def content_of(path: Path) -> bytes:
    """The bytes of a config file; Python detects the encoding (UTF-8, or that of a coding line)."""
    try:
        state = os.stat(path)
    except FileNotFoundError as error:
        near = [p.name for p in path.parent.glob("*.py")] if path.parent.is_dir() else []
        raise ConfigError(f"{path}: no such config file.{did_you_mean(path.name, near)}") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise ConfigError(f"{in_words(str(path))}: cannot be read ({reason(error)})") from error
    if not stat.S_ISREG(state.st_mode):
        raise ConfigError(f"{path}: {kind_of(state.st_mode)}, not a config file")
    try:
        content = read_bytes(path)
    except DataError as error:
        raise ConfigError(str(error)) from error
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ConfigError(f"{path}: encoded as UTF-16, which Python does not support. Save the file as UTF-8")
    return content


def run(path: Path, content: bytes) -> dict:
    """Run a config file and return the names it defines."""
    variables = {"__name__": "<config>", "__file__": str(path)}
    try:
        exec(compile(content, str(path), "exec"), variables)  # a config is a Python file written by the user
    except SyntaxError as error:
        where = path if not error.lineno else f"{path}:{error.lineno}"
        raise ConfigError(f"{where}: not valid Python ({error.msg})") from error
    except (Exception, SystemExit) as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        where = f"{path}:{lines[-1]}" if lines else str(path)
        raise ConfigError(f"{where}: {type(error).__name__}: {str(error).partition(chr(10))[0]}") from error
    return variables


def origins_of(path: Path, content: bytes, values: dict) -> dict[str, str]:
    """``dotted path -> file:line`` of every key set in ``path`` itself; the file alone if the line cannot be determined."""
    lines: dict[str, int] = {}
    for node in ast.parse(content).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            _collect_lines(node.value, node.targets[0].id, node.lineno, lines)
    origins = {}
    for where in _paths(values, ""):
        origins[where] = f"{path}:{lines[where]}" if where in lines else str(path)
    return origins


def _collect_lines(node: ast.expr, path: str, line: int, lines: dict[str, int]) -> None:
    lines[path] = line
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict":
        for keyword in node.keywords:
            if keyword.arg:
                _collect_lines(keyword.value, f"{path}.{keyword.arg}", keyword.value.lineno, lines)
    elif isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant):
                _collect_lines(value, f"{path}.{key.value}", value.lineno, lines)
    elif isinstance(node, (ast.List, ast.Tuple)):
        for index, value in enumerate(node.elts):
            _collect_lines(value, f"{path}.{index}", value.lineno, lines)


def _paths(value: object, path: str) -> Iterable[str]:
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in items:
        yield from _paths(child, f"{path}.{key}" if path else str(key))
