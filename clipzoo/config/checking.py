"""Checks a config against the signatures of the classes it names, before anything is built; all problems are reported at once."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, Union, get_args, get_origin

from clipzoo.config.annotations import fits, hints_of, in_words, is_plain, misfits
from clipzoo.config.arguments import argument_hints, constructor_owner, rule_of
from clipzoo.config.config import SECTIONS, Config
from clipzoo.config.foreign_names import foreign_name
from clipzoo.config.keys import full_key_hint
from clipzoo.config.registry import Registry
from clipzoo.config.settings import SETTINGS
from clipzoo.errors import ConfigError, RegistryError, did_you_mean
from clipzoo.registries import SLOTS

REQUIRED_SECTIONS = ("model", "data", "splits")
# Sections that are built by one registry; hooks is a list of such specs.
_BUILT = {name: name for name in ("model", "splits", "optimizer", "schedule")}


@dataclass(frozen=True)
class Problem:
    """One problem in a config.

    Attributes:
        where: Dotted path that starts the message.
        what: Rest of the message.
        key: Offending key below ``where``, whose line in the config file is shown; empty for ``where`` itself.
        allowed: End of the message: the arguments that exist.
        is_unknown: Whether the key exists nowhere near; it may be the last part of a key elsewhere.
    """

    where: str
    what: str
    key: str = ""
    allowed: str = ""
    is_unknown: bool = False

    def line(self, config: Config) -> str:
        """The message, with the file and line (or ``--cfg-options``) that set the value."""
        origin = config.origin(f"{self.where}.{self.key}" if self.key else self.where)
        hint = full_key_hint(self.key, config) if self.is_unknown else ""
        allowed = f" {self.allowed}" if self.allowed else ""
        return f"{self.where}: {self.what}{hint}{allowed}" + ("" if origin == "default" else f"  [{origin}]")


def check(config: Config, sections: Collection[str] = SECTIONS) -> None:
    """Check all sections, or the given ones.

    Raises:
        ConfigError: The config has problems; the message has one line for each: where it is, what is wrong, and the likely intention.
    """
    problems: list[Problem] = []
    for section in REQUIRED_SECTIONS:
        if section in sections and section not in config:
            problems.append(Problem(section, "missing section. Inherit one, e.g. _base_ = ['../_base_/…/….py']"))
    for section in sections:
        if section not in config:
            continue
        value = config[section]
        if section in _BUILT:
            check_spec(SLOTS[section], value, section, problems)
        elif section == "hooks":
            check_slot("hooks", value, section, problems, many=True)
        elif section == "plugins":
            if not fits(value, list[str]):
                problems.append(Problem("plugins", f"{in_words(value)} is not a list of module names"))
        else:
            check_settings(SETTINGS[section], value, section, problems)
    if problems:
        raise ConfigError("\n".join(problem.line(config) for problem in problems))


def check_spec(registry: Registry, spec: object, where: str, problems: list[Problem]) -> None:
    """Append to ``problems`` everything wrong with one spec (a dict, name or short spelling) of ``registry``."""
    try:
        arguments = registry.expand(spec)
        name = arguments.pop("type")
        cls = registry.get(name)
    except RegistryError as error:
        problems.append(Problem(where, str(error), "type"))
        return
    parameters = dict(inspect.signature(cls).parameters)
    open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()) and not _takes_nothing(cls)
    hints = argument_hints(cls)
    before = len(problems)
    for key in sorted(set(arguments) & set(registry.runtime)):
        problems.append(Problem(where, f"'{key}' is passed to {cls.__name__} by clipzoo. Remove it", key))
        arguments.pop(key)
    required = {
        key for key, p in parameters.items() if p.default is inspect.Parameter.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    }
    known = [key for key, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and key not in registry.runtime]
    _check_arguments(cls.__name__, arguments, where, problems, known=known, hints=hints, open_ended=open_ended)
    for key in sorted(required - set(arguments) - set(registry.runtime)):
        problems.append(Problem(where, f"{cls.__name__} requires '{key}'. {_signature(cls.__name__, known)}"))
    # Problems inside arguments that are built do not hide violations of rules between the others.
    own_fit = all(_is_built(key, hints) or fits(value, hints.get(key, Any)) for key, value in arguments.items())
    if rule_of(cls) is not None and own_fit and not any(problem.where == where for problem in problems[before:]):
        defaults = {key: p.default for key, p in parameters.items()}
        _collect(problems, lambda: rule_of(cls)(where, {**defaults, **arguments}))


def _takes_nothing(cls: type) -> bool:
    """Does ``cls`` lack a constructor of its own? ``nn.Module``'s signature accepts everything, but the call then fails."""
    return constructor_owner(cls).__module__.startswith("torch.")


def check_settings(cls: type, section: object, where: str, problems: list[Problem]) -> None:
    """Append to ``problems`` everything wrong with a section that has no ``type``."""
    if not isinstance(section, Mapping):
        problems.append(Problem(where, f"expected a dict, not {in_words(section)}"))
        return
    before = len(problems)
    known = [f.name for f in fields(cls)]
    _check_arguments(f"section '{where}'", section, where, problems, known=known, hints=hints_of(cls), open_ended=False)
    for f in fields(cls):
        if f.default is MISSING and f.default_factory is MISSING and f.name not in section:
            problems.append(Problem(where, f"'{f.name}' is missing. Known: {', '.join(known)}"))
    if len(problems) == before:
        _collect(problems, lambda: cls(**section))


def _collect(problems: list[Problem], rule: Callable[[], object]) -> None:
    """Append the error that ``rule`` raises, if any."""
    try:
        rule()
    except ConfigError as error:
        where, _, what = str(error).partition(": ")
        problems.append(Problem(where, what))


def check_slot(slot: str, value: object, where: str, problems: list[Problem], *, many: bool = False) -> None:
    """Append to ``problems`` everything wrong with an argument that is built: one spec, or a list of them."""
    if many and not isinstance(value, list):
        problems.append(Problem(where, f"expected a list, not {in_words(value)}"))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            check_spec(SLOTS[slot], item, f"{where}.{index}", problems)
    elif value is not None:
        check_spec(SLOTS[slot], value, where, problems)


def _check_arguments(
    owner: str, arguments: Mapping, where: str, problems: list[Problem], *, known: list[str], hints: dict, open_ended: bool
) -> None:
    for key, value in arguments.items():
        if key not in known and not open_ended:
            hint = did_you_mean(key, known) or foreign_name(key)
            what = f"{owner} has no argument '{key}'.{hint}"
            problems.append(Problem(where, what, str(key), _signature(owner, known), is_unknown=not hint))
        elif _is_built(key, hints):
            _check_built(key, value, f"{where}.{key}", problems, hints.get(key, Any))
        else:
            problems += [Problem(f"{where}.{key}{at}", what) for at, what in misfits(value, hints.get(key, Any))]


def _is_built(key: str, hints: Mapping[str, Any]) -> bool:
    return key in SLOTS and not is_plain(hints.get(key, Any))


def _check_built(slot: str, value: object, where: str, problems: list[Problem], annotation: object) -> None:
    """Check that an argument to be built is a single spec, a list or ``None``, as its annotation requires."""
    members = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    is_open = Any in members
    takes_list = any(list in (member, get_origin(member)) for member in members)
    if value is None and not is_open and type(None) not in members and None not in members:
        problems.append(Problem(where, f"None is not allowed; {_article(SLOTS[slot].name)} is required"))
    elif isinstance(value, list) and not is_open and not takes_list:
        problems.append(Problem(where, f"expected one {SLOTS[slot].name}, not a list of {len(value)}"))
    else:
        check_slot(slot, value, where, problems, many=takes_list and len([m for m in members if m is not type(None)]) == 1)


def _signature(owner: str, known: list[str]) -> str:
    return f"Known: {', '.join(known)}" if owner.startswith("section") else f"{owner}({', '.join(known)})"


def _article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
