"""Resamples of whole groups, in which no class vanishes."""

import numpy as np
import pytest

from clipzoo.errors import DataError
from clipzoo.statistics.uncertainty.resampling import bootstrap_weights, jackknife_weights, strata_of

GROUPS = np.array([0, 0, 1, 2, 2, 2, 3, 4, 5, 5])
LABELS = np.array([0, 0, 0, 0, 1, 1, 0, 1, 2, 0])


def test_cases_of_a_group_have_one_weight_and_draws_add_up():
    weights = bootstrap_weights(GROUPS, num_resamples=300, seed=0)
    assert weights.shape == (300, 10) and (weights == weights.round()).all()
    first = [0, 2, 3, 6, 7, 8]
    assert (weights == weights[:, first][:, GROUPS]).all()
    assert (weights[:, first].sum(axis=1) == 6).all()
    assert weights[:, first].mean(axis=0) == pytest.approx(np.ones(6), abs=0.15)
    assert weights[:, first].var(axis=0) == pytest.approx(np.full(6, 5 / 6), abs=0.2)  # multinomial: 1 - 1/G


def test_the_seed_decides():
    again = [bootstrap_weights(GROUPS, LABELS, num_resamples=50, seed=seed) for seed in (1, 1, 2)]
    assert (again[0] == again[1]).all() and not (again[0] == again[2]).all()


@pytest.mark.parametrize("stratified", [False, True])
def test_no_class_vanishes(stratified):
    weights = bootstrap_weights(GROUPS, LABELS, num_resamples=500, seed=0, stratified=stratified)
    for c in range(3):
        assert (weights[:, LABELS == c].sum(axis=1) > 0).all()
    hopeless = np.arange(12)  # twelve classes of one group each: nearly no draw has all
    weights = bootstrap_weights(hopeless, hopeless, num_resamples=20, seed=0, stratified=stratified)
    assert (weights > 0).all()


def test_strata_are_the_rarest_class_and_single_groups_are_joined():
    # class 2 is in group 5 only, class 1 in groups 2 and 4, class 0 in all but 4
    assert strata_of(GROUPS, LABELS).tolist() == [1, 1, 0, 1, 0, 0]
    weights = bootstrap_weights(GROUPS, LABELS, num_resamples=200, seed=0, stratified=True)
    of_group = weights[:, [0, 2, 3, 6, 7, 8]]
    assert (of_group[:, [2, 4, 5]].sum(axis=1) == 3).all() and (of_group[:, [0, 1, 3]].sum(axis=1) == 3).all()


def test_the_jackknife_leaves_one_group_out():
    found = jackknife_weights(GROUPS, LABELS)
    assert sorted(found.blocks.tolist()) == list(range(6))
    for group, block in enumerate(found.blocks):
        assert (found.weights[block] == (GROUPS != group)).all()


def test_many_groups_are_left_out_in_blocks_with_rare_classes_spread():
    groups, labels = np.arange(1000), (np.arange(1000) % 100 == 7).astype(int)
    found = jackknife_weights(groups, labels, max_blocks=50)
    assert found.weights.shape == (50, 1000) and ((1 - found.weights).sum(axis=0) == 1).all()
    assert ((1 - found.weights).sum(axis=1) == 20).all()
    assert len(set(found.blocks[labels == 1].tolist())) == 10


def test_no_cases_is_one_clear_line():
    with pytest.raises(DataError, match="resampling: no cases"):
        bootstrap_weights(np.zeros(0, dtype=int), num_resamples=5, seed=0)
