"""A config as one level of dotted keys, as trackers show hyper-parameters."""

from __future__ import annotations

import json
from collections.abc import Mapping

Flat = dict[str, str | int | float | bool | None]
NOT_SENT = ("hooks", "data.dataset.salt")  # addresses with passwords, and the key of pseudonyms


def flat(config: object, path: str = "") -> Flat:
    """A config with dotted keys; lists are JSON. Without keys that are nobody's business (``NOT_SENT``).

    >>> flat({'model': {'type': 'CLIP', 'sizes': [1, 2]}, 'data': {'dataset': {'salt': 'x'}}})
    {'model.type': 'CLIP', 'model.sizes': '[1, 2]'}
    """
    if path in NOT_SENT:
        return {}
    if isinstance(config, Mapping):
        return {k: v for key, value in config.items() for k, v in flat(value, f"{path}.{key}" if path else str(key)).items()}
    is_plain = config is None or isinstance(config, (str, int, float, bool))
    return {path: config if is_plain else json.dumps(config, ensure_ascii=False)}
