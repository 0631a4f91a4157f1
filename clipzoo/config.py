"""The config language: a Python file with at most ten plain-data sections, which may inherit from base files.

    _base_ = ['../_base_/models/clip.py', '../_base_/runtime/default.py']
    model = dict(image_encoder='resnet18')          # merged into the base's dict
    optimizer = dict(_delete_=True, type='SGD')     # replaces it; so does naming another type

Names that start with an underscore are the file's own. After loading a config is frozen and knows where every key came from.
"""

from __future__ import annotations

import ast
import math
import pprint
import runpy
import traceback
import types
from collections.abc import Iterable, Mapping
from pathlib import Path

from addict import Dict

from clipzoo.errors import ConfigError, did_you_mean

SECTIONS = ("model", "data", "splits", "optimizer", "schedule", "train", "evaluation", "hooks", "runtime", "plugins")

OVERRIDE = "--cfg-options"

# Names that users of mmlab's toolboxes will type, and what they are called here.
FOREIGN_NAMES = {
    "optim_wrapper": "optimizer",
    "param_scheduler": "schedule",
    "lr_config": "schedule",
    "train_dataloader": "data",
    "val_dataloader": "data",
    "test_dataloader": "data",
    "train_cfg": "train",
    "val_cfg": "evaluation",
    "test_cfg": "evaluation",
    "val_evaluator": "evaluation",
    "test_evaluator": "evaluation",
    "default_hooks": "hooks",
    "custom_hooks": "hooks",
    "custom_imports": "plugins",
    "env_cfg": "runtime",
    "randomness": "runtime.seed",
    "backbone": "image_encoder",
    "max_epochs": "train.epochs",
    "num_epochs": "train.epochs",
    "learning_rate": "optimizer.lr",
    "data_root": "data.dataset.root",
    "n_splits": "splits.num_folds",
    "random_state": "splits.seed",
    "img_size": "model.image_encoder.image_size",
    "samples_per_gpu": "data.batch_size",
    "workers_per_gpu": "data.num_workers",
    "work_dir": "--work-dir on the command line",
}


def foreign_name(name: str) -> str:
    """Return a sentence that translates a name of another toolbox, or an empty string."""
    return f" clipzoo calls '{name}' '{FOREIGN_NAMES[name]}'." if name in FOREIGN_NAMES else ""


class ConfigDict(Dict):
    """A dict with attribute access that refuses to invent missing keys, and to change once it is frozen.

    Keys that are also methods of a dict (``freeze``, ``items``, ``copy`` …) are read with square brackets.
    """

    @classmethod
    def _hook(cls, item: object) -> object:
        """Nested dicts are ``ConfigDict``, whatever they are nested in."""
        return ConfigDict(item) if type(item) is dict else super()._hook(item)

    def freeze(self, shouldFreeze: bool = True) -> None:  # noqa: N803, addict's own spelling
        """Refuse changes from now on, also in dicts inside lists."""
        super().freeze(shouldFreeze)
        for value in self.values():
            for item in value if isinstance(value, list) else ():
                if isinstance(item, ConfigDict):
                    item.freeze(shouldFreeze)

    def __missing__(self, name: str) -> None:
        raise KeyError(f"no key '{name}'.{did_you_mean(name, self)} There are: {', '.join(self) or 'none'}")

    def __getattr__(self, name: str) -> object:
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(error.args[0]) from error

    def __setitem__(self, name: str, value: object) -> None:
        if self.__dict__.get("__frozen"):
            raise ConfigError(f"config: frozen after loading; '{name}' cannot be set. Use --cfg-options or Config.load(…, overrides)")
        super().__setitem__(name, value)

    def pop(self, name: str, *default: object) -> object:
        """As ``dict.pop``, but refused once frozen."""
        if self.__dict__.get("__frozen"):
            raise ConfigError(f"config: frozen after loading; '{name}' cannot be removed")
        return super().pop(name, *default)

    def __delitem__(self, name: str) -> None:
        if self.__dict__.get("__frozen"):
            raise ConfigError(f"config: frozen after loading; '{name}' cannot be removed")
        super().__delitem__(name)


class Config(ConfigDict):
    """A loaded config: ten sections, by attribute or by key.

    >>> config = Config.from_dict({'train': {'epochs': 3}})
    >>> config.train.epochs
    3
    """

    @classmethod
    def load(cls, path: str | Path, overrides: Iterable[str] = ()) -> Config:
        """Read a config file, merge its bases, apply ``key.path=value`` overrides, and freeze the result.

        Raises:
            ConfigError: The file is missing or fails, a section is unknown, a value is not plain data, two bases disagree, or an override
                does not fit.
        """
        values, origins = _read(Path(path), ())
        dropped: dict[str, object] = {}
        for override in overrides:
            dropped |= _apply(values, origins, override)
        return cls._frozen(values, origins, Path(path).stem, dropped)

    @classmethod
    def from_dict(cls, values: Mapping, name: str = "config") -> Config:
        """Make a config from plain dicts, for use from Python."""
        plain = {key: _plain(value, key, f"<{name}>") for key, value in values.items()}
        _check_sections(plain, f"<{name}>")
        return cls._frozen(plain, {}, name, {})

    @classmethod
    def _frozen(cls, values: dict, origins: dict[str, str], name: str, dropped: dict[str, object]) -> Config:
        config = cls({section: values[section] for section in SECTIONS if section in values})
        object.__setattr__(config, "_origins", origins)
        object.__setattr__(config, "_name", name)
        object.__setattr__(config, "_dropped", dropped)
        config.freeze()
        return config

    @property
    def name(self) -> str:
        """The file's name without its ending; runs are called after it."""
        return self.__dict__["_name"]

    def origin(self, path: str) -> str:
        """``file:line`` (or ``--cfg-options``) where the key at ``path`` got its value; the nearest parent's where it has none itself."""
        origins = self.__dict__["_origins"]
        while path:
            if path in origins:
                return origins[path]
            path = path.rpartition(".")[0]
        return "default"

    def overridden(self) -> list[tuple[str, object]]:
        """Dotted path and value of every key that ``--cfg-options`` set."""
        origins = self.__dict__["_origins"]
        return [(path, value_at(self, path)) for path, origin in origins.items() if origin == OVERRIDE]

    def dropped(self) -> list[tuple[str, object]]:
        """Dotted path and value of what the config file says of one type, and ``--cfg-options`` left out by naming another."""
        origins = self.__dict__["_origins"]
        return [(path, value) for path, value in self.__dict__["_dropped"].items() if path not in origins]

    def plain(self) -> dict:
        """The sections as ordinary dicts and lists."""
        return self.to_dict()

    def dump(self) -> str:
        """The config as Python text that loads back equal, without bases."""
        sections = [f"{name} = {pprint.pformat(value, sort_dicts=False, width=110)}" for name, value in self.plain().items()]
        return "\n\n".join(sections) + "\n"


def value_at(config: Mapping, path: str) -> object:
    """The value at a dotted path; numbers are positions in lists."""
    value: object = config
    for key in path.split("."):
        value = value[int(key)] if isinstance(value, list) else value[key]
    return value


def differences(old: object, new: object, path: str = "") -> list[str]:
    """Where two plain configs differ, one ``path: old -> new`` each."""
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
    """One file with its bases merged in: its values, and ``dotted path -> file:line`` of every key."""
    if path.resolve() in parents:
        raise ConfigError(f"{path}: inherits from itself through _base_")
    variables = _run(path)
    bases = variables.get("_base_", [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, (list, tuple)) or not all(isinstance(base, str) for base in bases):
        raise ConfigError(f"{path}: _base_ is {bases!r}; a path or a list of paths is expected")
    own = {}
    for name, value in variables.items():
        if name.startswith("_") or (name not in SECTIONS and isinstance(value, (types.ModuleType, types.FunctionType, type))):
            continue
        own[name] = _plain(value, name, str(path))
    _check_sections(own, str(path))
    values: dict = {}
    origins: dict[str, str] = {}
    for base in bases:
        base_values, base_origins = _read(path.parent / base, (*parents, path.resolve()))
        _join_bases(values, origins, base_values, base_origins, "")
    own_origins = _origins(path, own)
    return _merge(values, own, origins, own_origins, ""), origins


def _run(path: Path) -> dict:
    if path.is_dir():
        raise ConfigError(f"{path}: a folder, not a config file")
    if not path.is_file():
        near = [p.name for p in path.parent.glob("*.py")] if path.parent.is_dir() else []
        raise ConfigError(f"{path}: no such config file.{did_you_mean(path.name, near)}")
    try:
        return runpy.run_path(str(path))
    except SyntaxError as error:
        raise ConfigError(f"{path}:{error.lineno}: not valid Python ({error.msg})") from error
    except (Exception, SystemExit) as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        where = f"{path}:{lines[-1]}" if lines else str(path)
        raise ConfigError(f"{where}: {type(error).__name__}: {error}") from error


def _check_sections(values: dict, where: str) -> None:
    for name in values:
        if name not in SECTIONS:
            hint = foreign_name(name) or did_you_mean(name, SECTIONS)
            raise ConfigError(
                f"{where}: there is no section '{name}'.{hint} Sections: {', '.join(SECTIONS)}; the file's own names start with '_'"
            )


def _plain(value: object, path: str, file: str) -> object:
    """A copy of ``value`` made of dict, list, str, int, float, bool and None; tuples become lists."""
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise ConfigError(f"{file}: {path}: the key {key!r} is not a string")
        return {key: _plain(v, f"{path}.{key}", file) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v, f"{path}.{i}", file) for i, v in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{file}: {path}: {value} cannot be kept in a config. Use None or a finite number")
    if value is None or type(value) in (str, int, float, bool):
        return value
    raise ConfigError(
        f"{file}: {path}: a config holds plain data (dict, list, str, int, float, bool, None), not {type(value).__name__} {value!r}"
    )


def _join_bases(into: dict, into_origins: dict, other: dict, other_origins: dict, path: str) -> None:
    """Merge a further base: equal values are fine, different ones are an error that names both."""
    for key, value in other.items():
        where = f"{path}.{key}" if path else key
        if key in into and isinstance(into[key], dict) and isinstance(value, dict):
            _join_bases(into[key], into_origins, value, other_origins, where)
        elif key in into and into[key] != value:
            raise ConfigError(
                f"{where}: two bases disagree, {into[key]!r} ({into_origins.get(where)}) and {value!r} ({other_origins.get(where)}). "
                "Keep it in one of them"
            )
        else:
            into[key] = value
            _copy_origins(into_origins, other_origins, where)


def _merge(base: dict, child: dict, origins: dict, child_origins: dict, path: str) -> dict:
    """Lay ``child`` over ``base``; ``origins`` is updated in place to what the result came from."""
    merged = dict(base)
    for key, value in child.items():
        where = f"{path}.{key}" if path else key
        old = merged.get(key)
        if isinstance(value, dict):
            if isinstance(old, str) and "type" not in value:
                old = {"type": old}  # a short spelling that gets further arguments
            replaces = value.get("_delete_", False) or not isinstance(old, dict) or value.get("type", old.get("type")) != old.get("type")
            value = {k: v for k, v in value.items() if k != "_delete_"}
            if not replaces:
                merged[key] = _merge(old, value, origins, child_origins, where)
                continue
            value = _merge({}, value, {}, {}, where)  # drops _delete_ further down
        for known in [p for p in origins if p == where or p.startswith(f"{where}.")]:
            del origins[known]
        merged[key] = value
        _copy_origins(origins, child_origins, where)
    return merged


def _copy_origins(into: dict, source: dict, path: str) -> None:
    into.update({p: o for p, o in source.items() if p == path or p.startswith(f"{path}.")})


def _origins(path: Path, values: dict) -> dict[str, str]:
    """``dotted path -> file:line`` of every key that ``path`` itself writes; the file alone where the line cannot be read off its text."""
    lines: dict[str, int] = {}
    for node in ast.parse(path.read_text(encoding="utf-8-sig")).body:
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


def _arguments(value: object) -> dict:
    """What a dict says besides its ``type``."""
    return {key: item for key, item in value.items() if key != "type"} if isinstance(value, dict) else {}


def _apply(values: dict, origins: dict[str, str], override: str) -> dict[str, object]:
    """Set one ``a.b.c=value``. Whether a new key is an argument of the constructor there is checked with everything else.

    Returns:
        Dotted path and value of every argument of another type that is gone.
    """
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise ConfigError(f"--cfg-options: '{override}' is not of the form key.path=value")
    section, *keys = path.split(".")
    if section not in SECTIONS:
        raise ConfigError(f"--cfg-options: there is no section '{section}'.{foreign_name(section) or did_you_mean(section, SECTIONS)}")
    if "_delete_" in keys:
        raise ConfigError(f"--cfg-options: '{path}': _delete_ works in config files only. Here, another type drops the old arguments")
    value = _parse(text)
    parent: dict | list = values
    walked = section
    key: str | int = section
    for following in keys:
        child = parent[key] if isinstance(parent, list) else parent.get(key)
        if child is None:
            child = {}
        elif isinstance(child, str):
            child = {"type": child}  # a short spelling that gets further arguments
        elif not isinstance(child, (dict, list)):
            raise ConfigError(f"--cfg-options: {walked} is {child!r} and has no '{following}'")
        parent[key] = child
        parent, key, walked = child, _list_index(child, following, walked), f"{walked}.{following}"
    old = {}
    if key == "type" and isinstance(parent, dict) and parent.get("type") not in (None, value):
        old = {f"{path.rpartition('.')[0]}.{name}": item for name, item in _arguments(parent).items()}
        parent.clear()  # another type takes none of the old one's arguments, just as in a config file
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
    if not key.isdigit() or int(key) >= len(child):
        raise ConfigError(f"--cfg-options: {walked} is a list of {len(child)}; '{key}' is not one of its positions 0 … {len(child) - 1}")
    return int(key)


def _parse(text: str) -> object:
    try:
        return _plain(ast.literal_eval(text), "value", "--cfg-options")
    except (ValueError, SyntaxError):
        if text.startswith("dict("):
            raise ConfigError(
                f"--cfg-options: {text} is not a literal. Write {{'type': …}}, or give each key: a.b.type=… a.b.c=…"
            ) from None
        return text
