"""Published models for a first config: which of those in the rules are complete in the local cache."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

from clipzoo.models import published
from clipzoo.models.catalogue import CATALOGUE, SEE_PAGE, Published
from clipzoo.planning.rules import CLIPS, IMAGE_TOWERS


@dataclass(frozen=True)
class Start:
    """Where the weights come from.

    Attributes:
        facts: Facts for the rules: ``start``, ``model`` (name of the model in the cache), ``peft``.
        wanted: Name of the model that ``clipzoo download`` should fetch first; empty if it is in the cache.
        notes: Models in the cache that cannot be used, and why.
    """

    facts: dict[str, object]
    wanted: str
    notes: tuple[str, ...]


def find_start(language: str) -> Start:
    """Look for a CLIP that reads the captions, then for an image tower. Each is built once, without network, to be sure that it works.

    Args:
        language: Key of ``rules.CLIPS``.
    """
    notes: list[str] = []
    peft = "yes" if importlib.util.find_spec("peft") else "no"
    by_name = {model.name: model for model in CATALOGUE}
    preferred = CLIPS[language]
    for kind, models in (
        ("published CLIP", [by_name[name] for name in preferred]),
        ("published image tower", [Published(name, "", "", None, None, "", SEE_PAGE, home) for name, home in IMAGE_TOWERS]),
    ):
        for model in models:
            if published.is_cached(model):
                problem = published.unusable(model.name)
                if problem is None:
                    wanted = "" if kind == "published CLIP" else preferred[0]
                    return Start({"start": kind, "model": model.name, "peft": peft}, wanted, tuple(notes))
                notes.append(f"{model.name} is in the local cache, but cannot be used: {problem}")
    return Start({"start": "random weights", "model": None, "peft": peft}, preferred[0], tuple(notes))
