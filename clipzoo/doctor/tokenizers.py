"""The tokenizer of a config's text tower, without a download."""

from __future__ import annotations

from collections.abc import Mapping

from clipzoo.errors import ClipzooError, first_line
from clipzoo.models.weights.hub import without_network
from clipzoo.registries import MODELS, SLOTS, TEXT_ENCODERS
from clipzoo.structures import Tokenizer


def tokenizer_of(model: object) -> tuple[Tokenizer | None, str]:
    """Build the text tower from files that are on this machine.

    Args:
        model: Section ``model`` of a config.

    Returns:
        Its tokenizer; or ``None``, and why the tower cannot be built. Both are empty for a model without a text tower.
    """
    try:
        spec: Mapping = MODELS.expand(model)
        tower = next((spec[name] for name in spec if SLOTS.get(name) is TEXT_ENCODERS), None)
        if tower is None:
            return None, ""
        with without_network():
            return TEXT_ENCODERS.build(tower).tokenizer, ""
    except ClipzooError as error:
        return None, first_line(error)
