"""The temperature that cosine similarities are divided by: kept as the log of its inverse, learned within [0.01, 1]."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import nn

from clipzoo.errors import ConfigError

# The factor on cosine similarities stays in [1, 100]; Radford et al. 2021 (arXiv:2103.00020), section 2.5.
_LARGEST_LOG_SCALE = math.log(100)


def check_temperature(where: str, arguments: Mapping[str, object]) -> None:
    """Refuse a ``temperature`` that learning would leave at once (``learn_temperature``); ``None`` passes. See ``arguments.checked``.

    Raises:
        ConfigError: It is.
    """
    temperature = arguments["temperature"]
    if temperature is not None and arguments["learn_temperature"] and not 0.01 <= temperature <= 1:
        raise ConfigError(f"{where}.temperature: {temperature} is not in [0.01, 1], where it is learned. learn_temperature=False takes any")


@torch.no_grad()
def clamp_learned(logit_scale: nn.Parameter) -> None:
    """Clamp a learned log scale to [0, ln 100] in place: a clamp in ``forward`` would stop its gradient for ever at the limit."""
    if logit_scale.requires_grad:
        logit_scale.clamp_(0, _LARGEST_LOG_SCALE)
