"""Temperature scaling against scipy's minimiser, the softmax of logits, and what it promises."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from clipzoo.errors import ConfigError, DataError
from clipzoo.statistics.decisions.temperature import HIGHEST, LOWEST, apply_temperature, fit_temperature


def example(num_cases=300, true_temperature=2.5, seed=0):
    rng = np.random.default_rng(seed)
    logits = 3 * rng.normal(size=(num_cases, 4))
    labels = (np.log(rng.uniform(size=logits.shape)) / softmax(logits / true_temperature, axis=1)).argmax(axis=1)  # exponential races
    return labels, logits


@pytest.mark.parametrize("prior_cases", [0, 20, 500])
@pytest.mark.parametrize("true_temperature", [0.4, 1.0, 2.5])
def test_equal_to_a_general_minimiser_on_logits(true_temperature, prior_cases):
    labels, logits = example(true_temperature=true_temperature)
    own = softmax(logits, axis=1)

    def loss(log_t):
        logs = log_softmax(logits / np.exp(log_t), axis=1)
        return -(logs[np.arange(300), labels].sum() + prior_cases * (own * logs).sum(axis=1).mean()) / (300 + prior_cases)

    found = fit_temperature(labels, own, prior_cases=prior_cases)
    best = minimize_scalar(loss, bounds=(-3, 3), method="bounded", options={"xatol": 1e-9})
    assert found.value == pytest.approx(np.exp(best.x), rel=1e-5) and loss(np.log(found.value)) == pytest.approx(best.fun, abs=1e-12)
    assert found.log_loss_after <= found.log_loss_before and not found.note
    if not prior_cases:
        assert found.value == pytest.approx(true_temperature, rel=0.25)


def test_the_pull_spares_the_test_part_of_a_small_val_part():
    """30 cases of a calibrated model: without the pull, some fits are far too extreme."""
    test_labels, test_logits = example(8_000, true_temperature=1.0, seed=100)
    test = softmax(test_logits, axis=1)
    rises = {0.0: [], 20.0: []}
    for seed in range(40):
        labels, logits = example(30, true_temperature=1.0, seed=seed)
        for prior_cases, rise in rises.items():
            scaled = apply_temperature(test, fit_temperature(labels, softmax(logits, axis=1), prior_cases=prior_cases).value)
            rise.append(np.log(test[np.arange(8_000), test_labels] / scaled[np.arange(8_000), test_labels]).mean())
    assert max(rises[20.0]) < 0.06 < 0.15 < max(rises[0.0]) and np.mean(rises[20.0]) < np.mean(rises[0.0]) / 2


def test_applied_to_probabilities_it_is_the_softmax_of_the_divided_logits():
    labels, logits = example()
    probabilities = softmax(logits, axis=1)
    np.testing.assert_allclose(apply_temperature(probabilities, 2.5), softmax(logits / 2.5, axis=1), rtol=1e-10)
    np.testing.assert_allclose(apply_temperature(probabilities, 1.0), probabilities, rtol=1e-12)
    assert (apply_temperature(probabilities, 7.0).argmax(axis=1) == probabilities.argmax(axis=1)).all()


def test_the_losses_are_those_of_the_probabilities():
    labels, logits = example()
    probabilities = softmax(logits, axis=1)
    found = fit_temperature(labels, probabilities)
    rows = np.arange(300)
    assert found.log_loss_before == pytest.approx(-np.log(probabilities[rows, labels]).mean())
    assert found.log_loss_after == pytest.approx(-np.log(apply_temperature(probabilities, found.value)[rows, labels]).mean())


def test_separable_cases_have_a_finite_temperature_only_with_the_pull():
    labels, logits = example()
    right, probabilities = logits.argmax(axis=1)[:20], softmax(logits[:20], axis=1)
    assert 0.3 < fit_temperature(right, probabilities).value < 1
    plain = fit_temperature(right, probabilities, prior_cases=0)
    assert plain.value == 1 and plain.note == "20 cases do not determine a temperature: all are predicted correctly"
    for prior_cases in (0, 20):
        assert fit_temperature(np.zeros(3, dtype=int), np.full((3, 2), 0.5), prior_cases=prior_cases).value == 1


def test_the_limits():
    labels, logits = example()
    wrong = fit_temperature(logits.argmin(axis=1), softmax(logits, axis=1))
    assert wrong.value == HIGHEST and wrong.note.startswith("limited to 20: predictions are no better than chance")
    flat = fit_temperature(labels, softmax(logits / 1000, axis=1))
    assert flat.value == LOWEST and flat.note.startswith("limited to 0.05")


def test_zeros_unknown_labels_and_nan():
    labels, logits = example()
    probabilities = softmax(logits, axis=1)
    more = fit_temperature(np.r_[labels, -1], np.r_[probabilities, np.full((1, 4), 0.25)])
    assert more == fit_temperature(labels, probabilities)
    sure = np.eye(2)[[0, 0, 0, 1]]
    found = fit_temperature(np.array([0, 0, 0, 0]), sure, prior_cases=0)  # one of four wrong: p = 3 / 4 would need more than 20
    assert apply_temperature(sure, found.value)[0, 0] == pytest.approx(0.987, abs=1e-3) and found.value == HIGHEST
    probabilities[5] = np.nan
    failed = fit_temperature(labels, probabilities)
    assert failed.value == 1 and failed.note == "probabilities are not finite"
    assert np.isnan(apply_temperature(probabilities, 2.0)[5]).all() and np.isfinite(apply_temperature(probabilities, 2.0)[4]).all()
    assert fit_temperature(labels[:0], probabilities[:0]).note == "no labelled cases"


def test_bad_input():
    with pytest.raises(DataError, match=r"temperature: 0\. It must be above 0"):
        apply_temperature(np.ones((1, 2)) / 2, 0)
    with pytest.raises(DataError, match="temperature: 3 labels, 2 rows"):
        fit_temperature(np.zeros(3), np.ones((2, 2)))
    with pytest.raises(ConfigError, match="temperature: prior_cases is -1"):
        fit_temperature(np.zeros(2, dtype=int), np.ones((2, 2)), prior_cases=-1)
