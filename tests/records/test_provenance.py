"""What decides a run, and what of it may change between two starts."""

import copy

import pytest

from clipzoo.errors import CheckpointError
from clipzoo.records.provenance import FREE_KEYS, ROUNDING_KEYS, Provenance, decisive

CONFIG = {
    "model": {"type": "CLIP"},
    "data": {"num_workers": 4, "batch_size": 8, "dataset": {"root": "images"}},
    "runtime": {"threads": 1},
    "hooks": ["ConsoleHook", {"type": "EarlyStoppingHook"}],
}


def test_only_what_decides_the_results_is_compared():
    assert decisive(CONFIG) == {
        "model": {"type": "CLIP"},
        "data": {"batch_size": 8, "dataset": {"root": "images"}},
        "hooks": [{"type": "EarlyStoppingHook"}],
    }
    for key in (*FREE_KEYS, *ROUNDING_KEYS):
        changed = copy.deepcopy(CONFIG)
        *sections, name = key.split(".")
        place = changed
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = "other"
        assert Provenance.of(changed, "fold_1", "f") == Provenance.of(CONFIG, "fold_1", "f"), key


def test_whatever_differs_is_named():
    own = Provenance.of(CONFIG, "fold_1", "f", "d", earlier_data=("c",))
    own.check(own.plain(), "x", "")
    own.check({**own.plain(), "data": "c"}, "x", "")  # a change that was accepted
    other = Provenance.of({**CONFIG, "data": {"batch_size": 9}}, "fold_2", "g", "e")
    words = "x.pth: belongs to fold_2, not fold_1 and to another config and to other folds and to other data. Go"
    with pytest.raises(CheckpointError, match=words):
        own.check(other.plain(), "x.pth", "Go")
    with pytest.raises(CheckpointError, match="to None, not fold_1"):
        own.check({}, "x", "")
