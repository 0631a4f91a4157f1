"""``summary --latex`` and ``--markdown``: from a real training, and bad input."""

import json

from latex_parser import rows_of


def test_a_real_training_for_a_paper(command, finished):
    ended = command("summary", finished, "--markdown")
    about = json.loads((finished / "config.json").read_text(encoding="utf-8"))
    torch_version = about["environment"]["packages"]["torch"]
    header = "| Metric (95 % CI) | tiny |"
    for part in (header, "3-fold cross-validation", "Each of the 36 images", f"torch {torch_version}", "36 张图像", "CPU (fp32)"):
        assert part in ended.out, part
    assert ended.status == 0 and f"clipzoo {about['environment']['clipzoo']}" in ended.out


def test_latex_of_several_work_dirs(command, finished, copy_of_finished):
    ended = command("summary", finished, copy_of_finished, "--latex")
    rows = rows_of(ended.out)
    assert ended.status == 0 and rows[0][1:] == ["tiny", "work"] and all(row[1] == row[2] for row in rows[1:])
    assert ended.out.count("\\paragraph{Methods}") == 1


def test_bad_input_is_one_clear_line(command, finished, copy_of_finished):
    both = command("summary", finished, "--latex", "--markdown")
    assert both.status == 2 and "not allowed with" in both.err and not both.out
    unfinished = command("summary", finished, copy_of_finished / "nowhere", "--latex")
    assert unfinished.status == 2 and "no such folder. Pass a work dir" in unfinished.err and not unfinished.out
    (copy_of_finished / "folds.json").unlink()
    missing = command("summary", copy_of_finished, "--markdown")
    assert missing.status == 2 and "folds.json" in missing.err and len(missing.err.splitlines()) == 1
    (copy_of_finished / "config.json").write_text("{}", encoding="utf-8")
    damaged = command("summary", copy_of_finished, "--latex")
    assert damaged.status == 2 and len(damaged.err.splitlines()) == 1
