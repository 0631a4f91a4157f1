"""The leaderboard's intervals, and the paired comparison of the best job with the others."""

import csv

import pytest
from run_files import table_of, write_run

from clipzoo.grid.jobs import Job
from clipzoo.grid.leaderboard import Leaderboard, leaderboard
from clipzoo.records.results import Summary
from clipzoo.scoring.runs import FinishedRun, compare
from clipzoo.text_tables import p_text


def job(name: str) -> Job:
    return Job(name=name, image="i", text="t", seed=1, overrides=())


@pytest.fixture
def folder(tmp_path):
    """One good job, one nearly as good, one much worse."""
    for name, right, seed in (("good", 0.97, 0), ("close", 0.9, 1), ("bad", 0.6, 2)):
        write_run(tmp_path / name, table_of(right=right, seed=seed))
    return tmp_path


def board(folder, *names: str, metric: str = "accuracy", **more) -> Leaderboard:
    return leaderboard([job(name) for name in names], [], folder, metric=metric, **more)


def marks(found: Leaderboard) -> dict[str, str]:
    return {row[0]: row[found.header.index("compared with the best")] for row in found.rows}


def test_rows_that_the_best_does_not_beat_are_marked(folder):
    found = board(folder, "bad", "close", "good")
    shown = marks(found)
    assert list(shown) == ["good", "close", "bad"] and shown["good"] == "best"
    assert shown["close"].startswith("not beaten (p = ") and shown["bad"].startswith("worse (p ")
    runs = [FinishedRun.read(folder / name, name) for name in shown]
    expected = [pair["metrics"]["accuracy"]["adjusted_p_value"] for pair in compare(runs, [(0, 1), (0, 2)], "accuracy").pairs]
    assert p_text(expected[0]) in shown["close"] and p_text(expected[1]) in shown["bad"]
    assert expected[1] < 0.05 < expected[0] and any("Holm's correction for 2" in note for note in found.notes)


def test_the_sorting_metric_carries_its_interval(folder):
    found = board(folder, "good", "bad")
    summary = Summary.read(folder / "good")
    low, high = summary.intervals["accuracy"]["low"], summary.intervals["accuracy"]["high"]
    first = dict(zip(found.header, found.rows[0], strict=True))
    assert first["accuracy (pooled)"] == f"{summary.pooled['accuracy']:.4f} [{low:.3f}, {high:.3f}]"
    assert first["auroc (pooled)"] == f"{summary.pooled['auroc']:.4f}"
    with open(folder / "leaderboard.csv", encoding="utf-8", newline="") as file:
        numbers = next(csv.DictReader(file))
    assert float(numbers["accuracy (pooled)"]) == pytest.approx(summary.pooled["accuracy"], abs=1e-4)
    assert [numbers["accuracy low"], numbers["accuracy high"]] == [f"{low:.4f}", f"{high:.4f}"]
    text = (folder / "leaderboard.md").read_text(encoding="utf-8")
    assert (
        first["accuracy (pooled)"] in text and "the best of 2: selecting is itself a choice" in text and "95 % confidence interval" in text
    )


def test_of_a_loss_the_lowest_is_the_best(folder):
    shown = marks(board(folder, "bad", "good", metric="log_loss", higher_is_better=False))
    assert list(shown) == ["good", "bad"] and shown["good"] == "best" and shown["bad"].startswith("worse (p ")


def test_what_cannot_be_compared_has_no_mark_but_a_note(folder):
    write_run(folder / "other", table_of(num_groups=40, right=0.7, seed=3))
    (folder / "close" / "oof_predictions.csv").unlink()
    found = board(folder, "bad", "close", "good", "other")
    shown = marks(found)
    assert shown.pop("bad").startswith("worse (p ") and shown == {"good": "best", "close": "", "other": ""}
    assert "Not compared with the best, as oof_predictions.csv is missing: close." in found.notes
    assert "Not compared with the best, as the folds differ: other." in found.notes
    (folder / "good" / "oof_predictions.csv").unlink()
    found = board(folder, "bad", "good")
    assert set(marks(found).values()) == {""} and any("Not compared with the best" in note for note in found.notes)


def test_a_single_job_is_the_best_of_nothing(folder):
    found = board(folder, "good")
    assert set(marks(found).values()) == {""} and not any("choice" in note or "best" in note for note in found.notes)


def test_the_p_values_are_corrected(folder):
    for number in range(3):
        write_run(folder / f"near_{number}", table_of(right=0.88, seed=10 + number))
    shown = marks(board(folder, "good", "near_0", "near_1", "near_2"))
    runs = [FinishedRun.read(folder / name, name) for name in shown]
    pairs = compare(runs, [(0, 1), (0, 2), (0, 3)], "accuracy").pairs
    numbers = [[pair["metrics"]["accuracy"][key] for pair in pairs] for key in ("p_value", "adjusted_p_value")]
    assert numbers[0] != numbers[1] and [p_text(p) in shown[run.name] for run, p in zip(runs[1:], numbers[1], strict=True)] == [True] * 3
