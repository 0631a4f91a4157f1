"""Applying the rules to what was found: decisions, and the values of a config."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from clipzoo.config import Config
from clipzoo.config.config import value_at
from clipzoo.planning.rules import RULES, Found


@dataclass(frozen=True)
class Decision:
    """What was decided about a topic.

    Attributes:
        topic: The topic.
        choice: The choice in words.
        reason: Why.
        keys: Dotted config keys that it sets.
    """

    topic: str
    choice: str
    reason: str
    keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """A config and how it came about.

    Attributes:
        config: The config.
        decisions: One for each topic of the rules, then those of the user.
    """

    config: Config
    decisions: tuple[Decision, ...]


def make_plan(facts: Mapping[str, object], dataset: Mapping[str, object], overrides: Iterable[str] = ()) -> Plan:
    """Decide every topic by its first rule that applies.

    Args:
        facts: Value of every fact in ``rules.FACTS`` up to ``adaptation``, and of those that choices stand for.
        dataset: Spec for ``data.dataset``.
        overrides: The user's choices, ``key.path=value`` as for ``--cfg-options``; they replace those of the rules.

    Raises:
        ConfigError: An override is malformed.
    """
    known = dict(facts)
    values: dict[str, object] = {"model": {}, "data": {"dataset": dict(dataset)}}
    decisions: list[Decision] = []
    for rule in RULES:
        if rule.topic in {decision.topic for decision in decisions} or not rule.applies(known):
            continue
        known[rule.topic] = rule.name
        for key, value in rule.choice.items():
            _set(values, key, known[value.fact] if isinstance(value, Found) else value)
        name = f"{known['model']}" if rule.choice.get("model.image_encoder.type") == Found("model") else rule.name
        decisions.append(Decision(rule.topic, name, rule.reason, tuple(rule.choice)))
    config = Config.from_dict(_short(values), "config", overrides)
    return Plan(config, tuple(_overridden(decisions, config)))


def _set(values: dict, path: str, value: object) -> None:
    *sections, last = path.split(".")
    for section in sections:
        values = values.setdefault(section, {})
    values[last] = value


def _short(values: dict, depth: int = 0) -> dict:
    """Without dicts that name a type and nothing else below a section: the name says the same."""
    return {
        key: value["type"]
        if isinstance(value, dict) and set(value) == {"type"} and depth
        else _short(value, depth + 1)
        if isinstance(value, dict)
        else value
        for key, value in values.items()
    }


def _overridden(decisions: Iterable[Decision], config: Config) -> list[Decision]:
    """The decisions with those of the user: a topic whose keys were all set by hand is no longer decided by a rule."""
    given = [path for path, _ in config.overridden()]
    left = []
    for decision in decisions:
        keys = tuple(key for key in decision.keys if not any(_covers(path, key) for path in given))
        if keys or not decision.keys:
            left.append(replace(decision, keys=keys))
    return [*left, *(Decision(path, str(value_at(config, path)), "set by hand", (path,)) for path in given)]


def _covers(path: str, key: str) -> bool:
    return key == path or key.startswith(f"{path}.") or path == key.removesuffix(".type")
