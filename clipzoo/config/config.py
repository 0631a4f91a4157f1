"""The config language: a Python file with up to ten sections of plain data, which may inherit from base files.

    _base_ = ['../_base_/models/clip.py', '../_base_/runtime/default.py']
    model = dict(image_encoder='resnet18')          # merged into the base's dict
    optimizer = dict(_delete_=True, type='SGD')     # replaces it; so does giving another type

Names that start with an underscore are private to the file. A loaded config is frozen and records where every key was set.
"""

from __future__ import annotations

import ast
import math
import pprint
import types
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path

from clipzoo.config.annotations import in_words
from clipzoo.config.config_file import content_of, origins_of, run
from clipzoo.config.foreign_names import foreign_name
from clipzoo.config.frozen import ConfigDict
from clipzoo.config.shipped import find
from clipzoo.errors import ConfigError, did_you_mean
from clipzoo.files import expanded

SECTIONS = ("model", "data", "splits", "optimizer", "schedule", "train", "evaluation", "hooks", "runtime", "plugins")

OVERRIDE = "--cfg-options"

_DEEPEST = 50  # nesting levels of dicts and lists


def _section_hint(path: str, values: Mapping, *, holds_keys: bool) -> str:
    """What was probably meant by a path that starts with no section: another toolbox's name, a section, or the end of a key.

    Args:
        path: What the user typed.
        values: Sections known so far, which decide the keys.
        holds_keys: Whether the first part is used like a section, so that a section with nearly this name comes first. Looking the keys
            up loads the classes that the config names, which takes seconds.
    """
    from clipzoo.config.keys import full_key_hint, is_setting  # here: the registries import this package

    first = path.partition(".")[0]
    near = did_you_mean(first, SECTIONS)
    if foreign_name(first) or (holds_keys and near and not is_setting(first)):
        return foreign_name(first) or near
    return full_key_hint(path, values) or near


class Config(ConfigDict):
    """A loaded config: ten sections, accessed by attribute or by key.

    >>> config = Config.from_dict({'train': {'epochs': 3}})
    >>> config.train.epochs
    3
    """

    @classmethod
    def load(cls, path: str | Path, overrides: Iterable[str] = ()) -> Config:
        """Read a config, merge its bases, apply ``key.path=value`` overrides, and freeze the result.

        Args:
            path: Config file, or the name of a shipped config, as ``shipped.find`` takes it.
            overrides: What ``--cfg-options`` takes.

        Raises:
            ConfigError: The file is missing or fails to run, a section is unknown, a value is not plain data, two bases disagree, or an
                override is invalid.
        """
        found = find(path)
        values, origins = _read(found, ())
        dropped: dict[str, object] = {}
        for override in overrides:
            dropped |= _apply(values, origins, override)
        return cls._frozen(values, origins, found.stem, dropped)

    @classmethod
    def from_dict(cls, values: Mapping, name: str = "config", overrides: Iterable[str] = ()) -> Config:
        """Create a config from plain dicts, for use from Python.

        Args:
            values: The sections.
            name: Name of the config.
            overrides: What ``--cfg-options`` takes.

        Raises:
            ConfigError: See ``load``.
        """
        plain = {key: _plain(value, key, f"<{name}>") for key, value in values.items()}
        _check_sections(plain, f"<{name}>")
        origins: dict[str, str] = {}
        dropped: dict[str, object] = {}
        for override in overrides:
            dropped |= _apply(plain, origins, override)
        return cls._frozen(plain, origins, name, dropped)

    @classmethod
    def _frozen(cls, values: dict, origins: dict[str, str], name: str, dropped: dict[str, object]) -> Config:
        config = cls({section: values[section] for section in SECTIONS if section in values})
        object.__setattr__(config, "_origins", origins)
        object.__setattr__(config, "_name", name)
        object.__setattr__(config, "_dropped", dropped)
        config.freeze()
        return config

    def with_values(self, changes: Mapping[str, object]) -> Config:
        """A copy with other values at some dotted paths, as if they had been given by ``--cfg-options``."""
        values, origins = self.plain(), dict(self.__dict__["_origins"])
        for path, value in changes.items():
            *sections, last = path.split(".")
            inner = values
            for section in sections:
                inner = inner.setdefault(section, {})
            inner[last] = value
            origins[path] = OVERRIDE
        return self._frozen(values, origins, self.name, dict(self.__dict__["_dropped"]))

    @property
    def name(self) -> str:
        """The file name without its extension; runs are named after it."""
        return self.__dict__["_name"]

    def origin(self, path: str) -> str:
        """``file:line`` (or ``--cfg-options``) that set the key at ``path``; the origin of the nearest parent if the key has none."""
        origins = self.__dict__["_origins"]
        while path:
            if path in origins:
                return origins[path]
            path = path.rpartition(".")[0]
        return "default"

    def origins(self) -> dict[str, str]:
        """``file:line``, with the last folders of its path, or ``--cfg-options``, by the dotted path of every key that was set."""
        return {path: "/".join(Path(origin).parts[-3:]) for path, origin in sorted(self.__dict__["_origins"].items())}

    def overridden(self) -> list[tuple[str, object]]:
        """Dotted path and value of every key set by ``--cfg-options``."""
        origins = self.__dict__["_origins"]
        return [(path, value_at(self, path)) for path, origin in origins.items() if origin == OVERRIDE]

    def dropped(self) -> list[tuple[str, object]]:
        """Dotted path and value of every argument in the config file that was dropped because ``--cfg-options`` gave another type."""
        origins = self.__dict__["_origins"]
        return [(path, value) for path, value in self.__dict__["_dropped"].items() if path not in origins]

    def plain(self) -> dict:
        """The sections as ordinary dicts and lists."""
        return self.to_dict()

    def dump(self) -> str:
        """The config as Python text without bases, which loads back equal."""
        sections = [f"{name} = {pprint.pformat(value, sort_dicts=False, width=110)}" for name, value in self.plain().items()]
        return "\n\n".join(sections) + "\n"


def value_at(config: Mapping, path: str) -> object:
    """The value at a dotted path; numbers are list indices."""
    value: object = config
    for key in path.split("."):
        value = value[int(key)] if isinstance(value, list) else value[key]
    return value


def differences(old: object, new: object, path: str = "") -> list[str]:
    """The differences between two plain configs, each as ``path: old -> new``."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = [*old, *(k for k in new if k not in old)]
        missing = object()
        found = []
        for key in keys:
            where = f"{path}.{key}" if path else str(key)
            a, b = old.get(key, missing), new.get(key, missing)
            if a is missing:
                found.append(f"{where}: (not set) -> {b!r}")
            elif b is missing:
                found.append(f"{where}: {a!r} -> (not set)")
            else:
                found.extend(differences(a, b, where))
        return found
    return [] if old == new and type(old) is type(new) else [f"{path}: {old!r} -> {new!r}"]


def _read(path: Path, parents: tuple[Path, ...]) -> tuple[dict, dict[str, str]]:
    """Load one file and its bases: the merged values, and ``dotted path -> file:line`` of every key."""
    content = content_of(path)
    if path.resolve() in parents:
        raise ConfigError(f"{path}: inherits from itself through _base_")
    variables = run(path, content)
    bases = variables.get("_base_", [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, (list, tuple)) or not all(isinstance(base, str) for base in bases):
        raise ConfigError(f"{path}: _base_ must be a path or a list of paths, not {in_words(bases)}")
    own = {}
    for name, value in variables.items():
        if name.startswith("_") or (name not in SECTIONS and isinstance(value, (types.ModuleType, types.FunctionType, type))):
            continue
        own[name] = _plain(value, name, str(path))
    _check_sections(own, str(path))
    values: dict = {}
    origins: dict[str, str] = {}
    for base in bases:
        base_values, base_origins = _read(path.parent / expanded(base), (*parents, path.resolve()))
        _join_bases(values, origins, base_values, base_origins, "")
    own_origins = origins_of(path, content, own)
    return _merge(values, own, origins, own_origins, ""), origins


def _check_sections(values: dict, where: str) -> None:
    for name in values:
        if name not in SECTIONS:
            hint = _section_hint(name, values, holds_keys=isinstance(values[name], dict))
            raise ConfigError(
                f"{where}: unknown section {in_words(name)}.{hint} Sections: {', '.join(SECTIONS)}; private names start with '_'"
            )


def _plain(value: object, path: str, file: str, depth: int = 0) -> object:
    """A copy of ``value`` consisting of dict, list, str, int, float, bool and None; tuples become lists."""
    if depth > _DEEPEST:
        start = ".".join(path.split(".")[:3])
        raise ConfigError(f"{file}: {start}: nested more than {_DEEPEST} levels deep, or contains itself")
    if isinstance(value, Mapping):
        return {_key(key, path, file): _plain(v, f"{path}.{key}", file, depth + 1) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v, f"{path}.{i}", file, depth + 1) for i, v in enumerate(value)]
    problem = None
    if isinstance(value, float) and not math.isfinite(value):
        problem = f"{value} is not allowed in a config. Use None or a finite number"
    elif type(value) is int and not -(2**63) <= value < 2**63:
        problem = f"{in_words(value)} does not fit a 64-bit integer"
    elif type(value) is str and not value.isascii() and not _is_unicode(value):
        problem = f"{in_words(value)} is not valid text (half of a surrogate pair, or a file name in another encoding). Rename the file"
    elif value is not None and type(value) not in (str, int, float, bool):
        kind = f"{type(value).__name__} {in_words(value)}"
        problem = f"a config holds plain data (dict, list, str, int, float, bool, None), not {kind}"
    if problem:
        raise ConfigError(f"{file}: {path}: {problem}")
    return value


def _key(key: object, path: str, file: str) -> str:
    if not isinstance(key, str) or not _is_unicode(key):
        raise ConfigError(f"{file}: {path}: the key {in_words(key)} is not a string")
    return key


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _join_bases(into: dict, into_origins: dict, other: dict, other_origins: dict, path: str) -> None:
    """Merge another base; equal values are fine, conflicting values raise an error that names both."""
    for key, value in other.items():
        where = f"{path}.{key}" if path else key
        if key in into and isinstance(into[key], dict) and isinstance(value, dict):
            _join_bases(into[key], into_origins, value, other_origins, where)
        elif key in into and into[key] != value:
            raise ConfigError(
                f"{where}: two bases disagree, {in_words(into[key])} ({into_origins.get(where)}) and {in_words(value)} "
                f"({other_origins.get(where)}). Keep it in one of them"
            )
        else:
            into[key] = value
            _copy_origins(into_origins, other_origins, where)


def _merge(base: dict, child: dict, origins: dict, child_origins: dict, path: str) -> dict:
    """Merge ``child`` into ``base``; ``origins`` is updated in place with the origin of each value."""
    merged = dict(base)
    for key, value in child.items():
        where = f"{path}.{key}" if path else key
        old = merged.get(key)
        if isinstance(value, dict):
            if isinstance(old, str) and "type" not in value:
                old = {"type": old}  # a short spelling that receives further arguments
            replaces = value.get("_delete_", False) or not isinstance(old, dict) or value.get("type", old.get("type")) != old.get("type")
            value = {k: v for k, v in value.items() if k != "_delete_"}
            if not replaces:
                merged[key] = _merge(old, value, origins, child_origins, where)
                continue
            value = _merge({}, value, {}, {}, where)  # removes nested _delete_ keys
        for known in [p for p in origins if p == where or p.startswith(f"{where}.")]:
            del origins[known]
        merged[key] = value
        _copy_origins(origins, child_origins, where)
    return merged


def _copy_origins(into: dict, source: dict, path: str) -> None:
    into.update({p: o for p, o in source.items() if p == path or p.startswith(f"{path}.")})


def _arguments(value: object) -> dict:
    """The entries of a dict besides ``type``."""
    return {key: item for key, item in value.items() if key != "type"} if isinstance(value, dict) else {}


def _apply(values: dict, origins: dict[str, str], override: str) -> dict[str, object]:
    """Set one ``a.b.c=value``. Whether a new key is a valid argument is checked later, with everything else.

    Returns:
        Dotted path and value of every argument dropped because the type changed.
    """
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise ConfigError(f"--cfg-options: {in_words(override)} is not of the form key.path=value")
    if not _is_unicode(override):
        raise ConfigError(f"--cfg-options: {in_words(override)} is not valid text. Rename the file, or use another terminal encoding")
    section, *keys = path.split(".")
    if len(keys) > _DEEPEST:
        raise ConfigError(f"--cfg-options: '{section}.{keys[0]}…' is more than {_DEEPEST} levels deep")
    if section not in SECTIONS:
        hint = _section_hint(path, values, holds_keys=bool(keys))
        raise ConfigError(f"--cfg-options: unknown section {in_words(section)}.{hint}")
    if "_delete_" in keys:
        raise ConfigError(f"--cfg-options: {in_words(path)}: _delete_ works in config files only. Here, a new type drops the old arguments")
    value = _parse(text, in_words(path)[1:-1])
    parent: dict | list = values
    walked = section
    key: str | int = section
    for following in keys:
        child = parent[key] if isinstance(parent, list) else parent.get(key)
        if child is None:
            child = {}
        elif isinstance(child, str):
            child = {"type": child}  # a short spelling that receives further arguments
        elif not isinstance(child, (dict, list)):
            raise ConfigError(f"--cfg-options: {in_words(walked)[1:-1]} is {in_words(child)} and has no {in_words(following)}")
        parent[key] = child
        parent, key, walked = child, _list_index(child, following, walked), f"{walked}.{following}"
    old = {}
    if key == "type" and isinstance(parent, dict) and parent.get("type") not in (None, value):
        old = {f"{path.rpartition('.')[0]}.{name}": item for name, item in _arguments(parent).items()}
        parent.clear()  # a new type drops the arguments of the old one, as in a config file
        for known in [p for p in origins if p.startswith(path.removesuffix("type"))]:
            del origins[known]
    before = parent.get(key) if isinstance(parent, dict) else None
    if keys and isinstance(before, dict) and "type" in before and isinstance(value, (str, dict)):
        old = {f"{path}.{name}": item for name, item in _arguments(before).items()}
    parent[key] = value
    for known in [p for p in origins if p.startswith(f"{path}.")]:
        del origins[known]
    origins[path] = OVERRIDE
    return old


def _list_index(child: dict | list, key: str, walked: str) -> str | int:
    if isinstance(child, dict):
        return key
    positions = {str(index): index for index in range(len(child))}
    if key not in positions:
        there = f"a list of {len(child)}; {in_words(key)} is not one of its indices 0 … {len(child) - 1}" if child else "an empty list"
        raise ConfigError(f"--cfg-options: {in_words(walked)[1:-1]} is {there}")
    return positions[key]


def _parse(text: str, path: str) -> object:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about escapes in text that may not be a literal
            value = ast.literal_eval(text)
    except (ValueError, SyntaxError) as error:
        if text.startswith("dict("):
            raise ConfigError(
                f"--cfg-options: {in_words(text)} is not a literal. Write {{'type': …}}, or give each key: a.b.type=… a.b.c=…"
            ) from error
        return text
    except (TypeError, MemoryError, RecursionError) as error:
        what = str(error) if isinstance(error, TypeError) else "nested too deeply"
        raise ConfigError(f"--cfg-options: {path}: {in_words(text)} is not a valid value ({what})") from error
    return _plain(value, path, "--cfg-options")
