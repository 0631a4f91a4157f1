"""The temperature that divides cosine similarities: stored as the log of its inverse, learned within [0.01, 1]."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import nn

from clipzoo.errors import ConfigError

# The factor of the cosine similarities stays in [1, 100]; Radford et al. 2021 (arXiv:2103.00020), section 2.5.
_LARGEST_LOG_SCALE = math.log(100)


def check_temperature(where: str, arguments: Mapping[str, object]) -> None:
    """Refuse a learned ``temperature`` outside its range (``learn_temperature``); ``None`` passes. See ``arguments.checked``.

    Raises:
        ConfigError: The temperature is learned and out of range.
    """
    temperature = arguments["temperature"]
    if temperature is not None and arguments["learn_temperature"] and not 0.01 <= temperature <= 1:
        raise ConfigError(f"{where}.temperature: {temperature} outside [0.01, 1]. Set learn_temperature=False to allow it")


@torch.no_grad()
def clamp_learned(logit_scale: nn.Parameter) -> None:
    """Clamp a learned log scale to [0, ln 100] in place: a clamp in ``forward`` would block its gradient forever at the limit."""
    if logit_scale.requires_grad:
        logit_scale.clamp_(0, _LARGEST_LOG_SCALE)
