"""Tip-Adapter: class texts and a cache of examples, without training."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from clipzoo.config.arguments import NotNegative
from clipzoo.probes.base import Examples, FittedProbe, Probe, softmax
from clipzoo.probes.choice import choose
from clipzoo.registries import PROBES

ALPHAS = (0.0, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
BETAS = (1.0, 2.0, 3.5, 5.5, 8.0, 12.0)
_ROWS = 1024


@PROBES.register_module()
class TipAdapter(Probe):
    """The model's zero-shot logits plus the examples: each adds ``alpha exp(-beta (1 - cosine))`` to its class.

    Args:
        alpha: Weight of the examples; 0 is zero-shot. ``None`` chooses among 0 … 100 within the examples; if that is impossible, 1 is
            used.
        beta: Rate at which an example's weight decays with distance. ``None`` chooses among 1 … 12; if that is impossible, 5.5 is used.

    Source: Zhang et al. 2022, "Tip-Adapter: Training-free Adaption of CLIP for Few-shot Classification", arXiv:2207.09519,
    section 3, without the fine-tuning of the keys.
    """

    name = "tip"
    needs_text = True

    def __init__(self, alpha: NotNegative | None = None, beta: NotNegative | None = None):
        self.alpha, self.beta = alpha, beta

    def learn(self, examples: Examples) -> FittedProbe:
        """See ``Probe.fit``."""
        alphas = ALPHAS if self.alpha is None else (float(self.alpha),)
        betas = BETAS if self.beta is None else (float(self.beta),)
        fallback = {"alpha": 1.0 if self.alpha is None else alphas[0], "beta": 5.5 if self.beta is None else betas[0]}
        grid = [{"alpha": alpha, "beta": beta} for beta in betas for alpha in alphas]
        choice = choose(examples, grid, fallback, lambda folds: _held_out(examples, folds, alphas, betas))
        alpha, beta = choice.values["alpha"], choice.values["beta"]
        keys_DN, values_NC = examples.features.T, _values(examples)

        def probabilities(features_MD: np.ndarray) -> np.ndarray:
            cached_MC = np.exp(beta * (features_MD @ keys_DN - 1)) @ values_NC
            return softmax(_zero_shot(examples, features_MD) + alpha * cached_MC)

        return FittedProbe(probabilities, choice.values, choice.notes)


def _zero_shot(examples: Examples, features_MD: np.ndarray) -> np.ndarray:
    return examples.logit_scale * (features_MD @ examples.text.T)


def _values(examples: Examples) -> np.ndarray:
    """``[N, C]`` what each example adds to its class: 1, or its weight where classes count equally."""
    weights = examples.weights
    return examples.one_hot if weights is None else examples.one_hot * weights[:, None].astype(np.float32)


def _held_out(examples: Examples, folds: np.ndarray, alphas: tuple[float, ...], betas: tuple[float, ...]) -> Iterator[np.ndarray]:
    """Logits in the order of the grid, beta by beta. Similarities are computed once."""
    N, C = len(folds), examples.num_classes
    zero_shot_NC, cached = np.empty((N, C), dtype=np.float32), np.empty((len(betas), N, C), dtype=np.float32)
    values_NC = _values(examples)
    for start in range(0, N, _ROWS):
        rows = slice(start, start + _ROWS)
        features = examples.features[rows]
        zero_shot_NC[rows], similarity = _zero_shot(examples, features), features @ examples.features.T
        others = folds[rows, None] != folds
        for index, beta in enumerate(betas):
            cached[index, rows] = (others * np.exp(beta * (similarity - 1))) @ values_NC
    for cached_NC in cached:
        for alpha in alphas:
            yield zero_shot_NC + alpha * cached_NC
