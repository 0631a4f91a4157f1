"""Temperature scaling against scipy's minimiser, the softmax of logits, and what it promises."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from clipzoo.errors import DataError
from clipzoo.statistics.decisions.temperature import HIGHEST, LOWEST, apply_temperature, fit_temperature


def example(num_cases=300, true_temperature=2.5, seed=0):
    rng = np.random.default_rng(seed)
    logits = 3 * rng.normal(size=(num_cases, 4))
    labels = (np.log(rng.uniform(size=logits.shape)) / softmax(logits / true_temperature, axis=1)).argmax(axis=1)  # exponential races
    return labels, logits


@pytest.mark.parametrize("true_temperature", [0.4, 1.0, 2.5])
def test_equal_to_a_general_minimiser_on_logits(true_temperature):
    labels, logits = example(true_temperature=true_temperature)
    losses = minimize_scalar(
        lambda log_t: -log_softmax(logits / np.exp(log_t), axis=1)[np.arange(300), labels].mean(),
        bounds=(-3, 3),
        method="bounded",
        options={"xatol": 1e-9},
    )
    found = fit_temperature(labels, softmax(logits, axis=1))
    assert found.value == pytest.approx(np.exp(losses.x), rel=1e-5) and found.log_loss_after == pytest.approx(losses.fun, abs=1e-12)
    assert found.log_loss_after <= found.log_loss_before and found.value == pytest.approx(true_temperature, rel=0.25) and not found.note


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


def test_separable_cases_leave_the_probabilities_as_they_are():
    labels, logits = example()
    found = fit_temperature(logits.argmax(axis=1)[:20], softmax(logits[:20], axis=1))
    assert found.value == 1 and found.note == "20 cases do not determine a temperature: all are predicted correctly"
    assert fit_temperature(np.zeros(3, dtype=int), np.full((3, 2), 0.5)).value == 1


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
    found = fit_temperature(np.array([0, 0, 0, 0]), sure)  # one of four wrong: the best probability is 3 / 4
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
