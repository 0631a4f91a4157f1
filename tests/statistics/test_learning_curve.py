"""The power law against scipy's non-linear least squares, exact points, and simulated experiments."""

import numpy as np
import pytest
from scipy.optimize import curve_fit
from scipy.stats import norm

from clipzoo.errors import DataError
from clipzoo.statistics.learning_curve import EXPONENTS, extrapolate, fit_power_law

SIZES = np.array([20.0, 40, 80, 120, 160])


def experiment(true, num_cases, rng, *, draws=4, num_replicates=300):
    """Observed errors and their replicates: test cases are difficult at all sizes, and draws of the training cases are lucky or not."""
    chance_RP = np.clip(true + 0.01 * rng.normal(size=(draws, len(true))), 0, 1)
    difficulty_N = rng.normal(size=num_cases)[:, None]
    latent_RNP = np.sqrt(0.7) * difficulty_N + np.sqrt(0.3) * rng.normal(size=(draws, num_cases, len(true)))
    wrong_RNP = (latent_RNP < norm.ppf(chance_RP)[:, None]).astype(float)
    share_BN = rng.multinomial(num_cases, np.full(num_cases, 1 / num_cases), size=num_replicates) / num_cases
    share_BR = rng.multinomial(draws, np.full(draws, 1 / draws), size=num_replicates) / draws
    return wrong_RNP.mean(axis=(0, 1)), np.einsum("br,bn,rnp->bp", share_BR, share_BN, wrong_RNP, optimize=True)


@pytest.mark.parametrize("law", [(0.05, 1.5, 0.5), (0.0, 0.6, 0.2), (0.2, 3.0, 1.0)])
def test_exact_points_give_the_law_back(law):
    """Up to the grid of exponents, whose steps are 2 %."""
    asymptote, scale, exponent = law
    found = fit_power_law(SIZES, asymptote + scale * SIZES**-exponent)
    assert found.exponent == pytest.approx(exponent, rel=0.02)
    assert found.error(320) == pytest.approx(asymptote + scale * 320**-exponent, abs=5e-4)


@pytest.mark.parametrize("seed", range(8))
def test_no_worse_than_scipy_within_the_same_bounds(seed):
    rng = np.random.default_rng(seed)
    standard = rng.uniform(0.005, 0.02, 5)
    errors = 0.1 + 0.8 * SIZES**-0.4 + standard * rng.normal(size=5)

    def loss(a, b, c):
        return (((a + b * SIZES**-c - errors) / standard) ** 2).sum()

    bounds = ([0, 0, EXPONENTS[0]], [np.inf, np.inf, EXPONENTS[-1]])
    fits = [
        curve_fit(lambda n, a, b, c: a + b * n**-c, SIZES, errors, p0=p0, sigma=standard, bounds=bounds, max_nfev=5000)[0]
        for p0 in ((0.1, 1, 0.4), (0.0, 0.5, 0.1), (0.2, 2, 1))
    ]
    found = fit_power_law(SIZES, errors, standard)
    best = min(fits, key=lambda fit: loss(*fit))
    assert loss(found.asymptote, found.scale, found.exponent) <= loss(*best) + 0.03  # half a step of the grid away at most
    assert found.error(320) == pytest.approx(best[0] + best[1] * 320 ** -best[2], abs=1e-3)
    assert found.asymptote >= 0 and found.scale >= 0


def test_an_error_that_rises_is_fitted_by_its_mean():
    found = fit_power_law(SIZES, 0.1 + SIZES / 1000, np.array([1.0, 1, 1, 1, 2]))
    weights = np.array([1, 1, 1, 1, 0.25])
    assert found.scale == 0 and found.asymptote == pytest.approx(weights @ (0.1 + SIZES / 1000) / weights.sum())


def test_the_scale_of_sizes_does_not_matter():
    errors = 0.1 + 0.8 * SIZES**-0.4 + np.array([0.01, -0.01, 0.01, 0, 0])
    small, large = fit_power_law(SIZES, errors), fit_power_law(1e4 * SIZES, errors)
    assert large.error(2e6) == pytest.approx(small.error(200)) and large.exponent == small.exponent


@pytest.mark.parametrize("law", [(0.05, 1.5, 0.5), (0.2, 3.0, 1.0), (0.25, 0.0, 1.0)])
def test_the_interval_of_the_gain_covers(law):
    rng = np.random.default_rng(0)
    asymptote, scale, exponent = law
    true = asymptote + scale * SIZES**-exponent
    gain = scale * (160**-exponent - 320**-exponent)
    found = [extrapolate(SIZES, *experiment(true, 200, rng)) for _ in range(30)]
    assert np.mean([f.low <= gain <= f.high for f in found]) >= 0.85 and all(f.low <= f.gain <= f.high for f in found)
    assert np.mean([f.gain for f in found]) == pytest.approx(gain, abs=0.006) and np.mean([f.determined for f in found]) > 0.8


def test_what_the_points_do_not_determine_is_not_extrapolated():
    rng = np.random.default_rng(0)
    errors = 0.1 + 0.8 * SIZES**-0.4
    few = extrapolate(SIZES[2:], errors[2:], errors[2:] + 0.01 * rng.normal(size=(50, 3)))
    assert few.curve is None and not few.determined and few.reason.startswith("3 sizes over a factor of 2: cannot be extrapolated")
    some = [0, 2, 4]
    assert extrapolate(SIZES[some], errors[some], errors[some] + 0.01 * rng.normal(size=(50, 3))).reason.startswith(
        "3 sizes over a factor of 8"
    )
    near = extrapolate(SIZES + 300, errors, errors + 0.01 * rng.normal(size=(50, 5)))
    assert "over a factor of 1.44: cannot" in near.reason
    noisy = extrapolate(SIZES, errors, errors + 0.15 * rng.normal(size=(200, 5)))
    assert not noisy.determined and noisy.reason.startswith("cannot be extrapolated: any gain from 0.000 to") and noisy.curve is not None
    sure = extrapolate(SIZES, errors, errors + 0.003 * rng.normal(size=(200, 5)))
    assert sure.determined and sure.reason == "" and sure.size == 320 and sure.error == pytest.approx(sure.curve.error(320))


def test_blocks_of_replicates_change_nothing(monkeypatch):
    errors = 0.1 + 0.8 * SIZES**-0.4
    replicates = errors + 0.01 * np.random.default_rng(0).normal(size=(450, 5))
    whole = extrapolate(SIZES, errors, replicates)
    monkeypatch.setattr("clipzoo.statistics.learning_curve._BLOCK", 37)
    assert extrapolate(SIZES, errors, replicates) == whole


def test_bad_input():
    errors = 0.1 + 0.8 * SIZES**-0.4
    with pytest.raises(DataError, match=r"learning curve: replicates of shape \(5,\)\. It must be \[2 or more, 5\]"):
        extrapolate(SIZES, errors, errors)
    with pytest.raises(DataError, match="the factor must be above 1"):
        extrapolate(SIZES, errors, np.tile(errors, (3, 1)), factor=1)
    for arguments, message in (
        ((SIZES, errors[:4]), "5 sizes, 4 errors, 5 standard errors"),
        ((SIZES, errors * np.nan), "all numbers must be finite"),
        ((SIZES, errors, np.zeros(5)), "sizes and standard errors above 0"),
        ((np.ones(3), np.ones(3)), "two different sizes"),
    ):
        with pytest.raises(DataError, match=message):
            fit_power_law(*arguments)
