"""Every number that a config can say has a range in its signature, and the check of a config and the constructor hold the same one."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator
from dataclasses import MISSING, fields
from typing import Annotated, Any, get_args, get_origin

import pytest
from annotated_types import Ge, Gt, Interval, Le, Lt
from tiny import tiny_config

from clipzoo.config import Config
from clipzoo.config.annotations import FieldsOf, fits, hints_of
from clipzoo.config.arguments import argument_hints
from clipzoo.config.checking import Problem, check, check_settings, check_spec
from clipzoo.config.settings import SETTINGS, RuntimeSettings
from clipzoo.errors import ConfigError
from clipzoo.registries import TABLES

# Numbers without a range; every entry needs a reason. There are none.
EXCEPTIONS: set[tuple[str, str]] = set()

OWN = [(table, name) for table, r in TABLES.items() for name in sorted(r) if r.get(name).__module__.startswith("clipzoo.")]


def numbers_in(annotation: Any, ruled: bool = False) -> Iterator[tuple[Any, bool]]:
    """Every number inside an annotation, and whether a range is on it."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        rules = arguments[1:]
        owner = next((rule.cls for rule in rules if isinstance(rule, FieldsOf)), None)
        if owner is not None:
            for hint in hints_of(owner).values():
                yield from numbers_in(hint)
            return
        yield from numbers_in(arguments[0], any(isinstance(rule, (Gt, Ge, Lt, Le, Interval)) for rule in rules))
    elif annotation in (int, float):
        yield annotation, ruled
    else:
        for argument in arguments:
            yield from numbers_in(argument)


def just_outside(annotation: Any) -> list[Any]:
    """Values just beyond each end of the ranges in an annotation, in the shape that it wants."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        base, found = arguments[0], []
        for rule in arguments[1:]:
            low = getattr(rule, "gt", None) if getattr(rule, "gt", None) is not None else getattr(rule, "ge", None)
            high = getattr(rule, "lt", None) if getattr(rule, "lt", None) is not None else getattr(rule, "le", None)
            is_open = [getattr(rule, name, None) is not None for name in ("gt", "lt")]
            for end, opened, step in ((low, is_open[0], -1), (high, is_open[1], 1)):
                if end is not None:
                    near = end + step if base is int else math.nextafter(end, math.inf * step)
                    found.append(end if opened else near)
            if isinstance(rule, FieldsOf):
                found += [{name: value} for name, hint in hints_of(rule.cls).items() for value in just_outside(hint)]
        if base is float:
            found += [math.nan, math.inf, -math.inf]
        return found if found else just_outside(base)
    if origin in (list, tuple):
        inner = [a for a in arguments if a is not Ellipsis]
        count = 4 if origin is list else len(inner)
        return [[value] * count for value in just_outside(inner[0])]
    if origin is dict:
        return [{"image_encoder": value} for value in just_outside(arguments[1])]
    return [value for argument in arguments for value in just_outside(argument)]


NUMBERS = [
    (table, name, key)
    for table, name in OWN
    for key, hint in argument_hints(TABLES[table].get(name)).items()
    if key != "return" and any(True for _ in numbers_in(hint))
]


def test_every_number_has_a_range():
    assert len(NUMBERS) > 100, "the walk finds what there is"
    hints = {(name, key): argument_hints(TABLES[table].get(name))[key] for table, name, key in NUMBERS}
    hints |= {(section, f.name): hints_of(cls)[f.name] for section, cls in SETTINGS.items() for f in fields(cls)}
    bare = {place for place, hint in hints.items() if not all(ruled for _, ruled in numbers_in(hint))}
    assert bare == EXCEPTIONS


def test_every_annotation_of_a_constructor_is_resolved():
    for table, name in OWN:
        cls = TABLES[table].get(name)
        assert set(inspect.signature(cls).parameters) <= set(argument_hints(cls)), name


@pytest.mark.parametrize(("table", "name", "key"), NUMBERS, ids=lambda value: value)
def test_a_value_just_outside_is_refused_by_check_and_constructor(table, name, key):
    registry = TABLES[table]
    cls = registry.get(name)
    hint = argument_hints(cls)[key]
    required = {p.name: object() for p in inspect.signature(cls).parameters.values() if p.default is p.empty and p.name != key}
    assert just_outside(hint)
    for value in just_outside(hint):
        with pytest.raises(ConfigError, match=rf"^{name}\.{key}[.\w]*: "):
            cls(**{**{k: v for k, v in required.items() if not numbers_or_text(cls, k)}, **text_for(cls, required), key: value})
        if key not in registry.runtime:
            problems: list[Problem] = []
            check_spec(registry, {"type": name, key: value}, "here", problems)
            assert [p.where for p in problems if p.where.startswith(f"here.{key}")], (value, problems)


def numbers_or_text(cls: type, key: str) -> bool:
    return not fits(object(), argument_hints(cls)[key])


def text_for(cls: type, required: dict) -> dict:
    """Fitting values for required arguments of plain types."""
    values = ("x", 1, [1.0], "image_to_text")
    return {k: next(v for v in values if fits(v, argument_hints(cls)[k])) for k in required if numbers_or_text(cls, k)}


@pytest.mark.parametrize(("table", "name"), OWN, ids=lambda value: value)
def test_defaults_fit(table, name):
    cls = TABLES[table].get(name)
    hints = argument_hints(cls)
    for parameter in inspect.signature(cls).parameters.values():
        assert parameter.default is parameter.empty or fits(parameter.default, hints[parameter.name]), parameter


@pytest.mark.parametrize("section", SETTINGS)
def test_a_value_just_outside_is_refused_in_every_section(section):
    cls = SETTINGS[section]
    needed = {f.name: {} for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING}
    for field in fields(cls):
        for value in just_outside(hints_of(cls)[field.name]):
            value = [value[0]] if field.name == "unfreeze" else value
            problems: list[Problem] = []
            check_settings(cls, {**needed, field.name: value}, section, problems)
            assert [p for p in problems if p.where.startswith(f"{section}.{field.name}")], (field.name, value)
            with pytest.raises(ConfigError, match=rf"^{section}\.{field.name}[.\w]*: "):
                cls(**{**needed, field.name: value})


def test_the_check_lists_every_value_outside_its_range_at_once(class_folders):
    sections = {
        "model": {"temperature": 7, "image_encoder": {"type": "resnet18", "image_size": -5}},
        "optimizer": {"lr": -1},
        "schedule": {"type": "CosineSchedule", "warmup_epochs": -3},
        "splits": {"val_fraction": 3},
    }
    with pytest.raises(ConfigError) as caught:
        check(Config.from_dict(tiny_config(class_folders, **sections)))
    assert str(caught.value).splitlines() == [
        "model.image_encoder.image_size: -5 is not a whole number from 1 to 65536 or None",
        "model.temperature: 7 outside [0.01, 1]. Set learn_temperature=False to allow it",
        "splits.val_fraction: 3 is not a number in [0, 1)",
        "optimizer.lr: -1 is not a number above 0",
        "schedule.warmup_epochs: -3 is not a number from 0 to 1000000",
    ]


@pytest.mark.parametrize("key", ["feature_cache", "image_cache"])
def test_a_cache_folder_without_a_name_is_refused(key):
    """It would be the current folder."""
    with pytest.raises(ConfigError, match=f"runtime.{key}: the name of the folder is empty. Set 'auto', a folder, or None"):
        RuntimeSettings(**{key: ""})
