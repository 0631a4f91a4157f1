"""What is shown of several runs."""

from __future__ import annotations

import io
import re

from rich.console import Console

from clipzoo.engine.side_by_side.view import FoldView

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


def view_on(width: int) -> tuple[FoldView, Console]:
    console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None, soft_wrap=True, highlight=False)
    return FoldView.on(console, 5, 2), console


def bar_of(name: str, done: int, left: float | None) -> dict:
    note = "loss 0.1234  val balanced_accuracy 0.9870  *best  512 images/s"
    return {"name": name, "what": f"{name} epoch 3/6", "done": done, "total": 20, "note": note, "left": left}


def drawn(view: FoldView, console: Console) -> str:
    """The bars as they are drawn on a console like this one, without what keeps them in place."""
    screen = Console(file=io.StringIO(), force_terminal=True, width=console.width, color_system=None, soft_wrap=True, highlight=False)
    screen.print(view.bars.progress.get_renderable())
    return screen.file.getvalue()


def lines_of(view: FoldView, console: Console) -> list[str]:
    return [line for line in ESCAPES.sub("", drawn(view, console)).splitlines() if line]


def test_each_run_is_one_line_with_epoch_loss_score_speed_and_time():
    view, console = view_on(140)
    view.show("fold_1", bar_of("fold_1", 12, 30.0))
    view.show("fold_2", bar_of("fold_2", 5, 40.0))
    everything, first, second = lines_of(view, console)
    for part in ("fold_1 epoch 3/6", "12/20", "0:30 left", "loss 0.1234", "val balanced_accuracy 0.9870", "512 images/s", "━"):
        assert part in first
    assert "fold_2" in second and "0/5" in everything and "2 at a time, 3 waiting" in everything
    assert "1:35 left" in everything, "(30 + 40 + 3 x 40 s) / 2"
    view.close()


def test_a_narrow_terminal_cuts_lines_instead_of_wrapping_them():
    view, console = view_on(60)
    for name in ("fold_1", "fold_2"):
        view.show(name, bar_of(name, 12, 30.0))
    lines = lines_of(view, console)
    assert len(lines) == 3 and all(len(line) <= 60 for line in lines) and "fold_2 epoch 3/6" in lines[2]
    view.close()


def test_an_ended_run_leaves_and_counts():
    view, console = view_on(140)
    view.show("fold_1", bar_of("fold_1", 12, 30.0))
    view.show("fold_1", {**bar_of("images", 1, None), "name": "images"})
    view.hide("images")
    view.ended("fold_1", 100.0)
    (line,) = lines_of(view, console)
    assert "1/5" in line and "4 waiting" in line and "3:20 left" in line
    view.close()
    view.hide("fold_1")


def test_names_do_not_act_on_the_terminal():
    view, console = view_on(140)
    view.show("fold_1", {**bar_of("a\x1b[31m[red]\u202e", 1, 1.0)})
    text = drawn(view, console)
    assert r"a\x1b[31m[red]\u202e epoch" in text and "\u202e" not in text and "\x1b[31m" not in text
    view.close()


def test_without_a_terminal_there_are_no_bars():
    view = FoldView.on(Console(file=io.StringIO()), 5, 2)
    assert not view.has_bars
    view.show("fold_1", bar_of("fold_1", 12, 30.0))
    view.ended("fold_1", 1.0)
    view.close()
