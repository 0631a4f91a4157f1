"""``data.near_duplicates='group'``: nearly equal images share a group, in the folds of every command, and it is said where."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import pytest
from PIL import Image, ImageOps
from processes import in_processes, launch
from smooth_pictures import picture
from tiny import tiny_config

from clipzoo.cli import make_folds as make_folds_command
from clipzoo.config import Config
from clipzoo.datasets.build import build_dataset, build_folds
from clipzoo.datasets.image_folder import ImageFolderDataset
from clipzoo.datasets.inspection import image_facts, near_duplicates
from clipzoo.doctor.check import check_data
from clipzoo.engine import build
from clipzoo.engine.checks.decisions import joined_units
from clipzoo.engine.cross_validation import CrossValidation
from clipzoo.engine.dry_run import dry_run
from clipzoo.errors import CheckpointError, ConfigError, DataError, LeakError
from clipzoo.records.folds import Folds
from clipzoo.registries import DATASETS

COPIES = {"a/00.png": "a/00 again.jpg", "a/02.png": "a/02 small.png", "b/01.png": "a/01 mirrored.webp", "b/03.png": "b/03 twice.bmp"}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache folder."""
    monkeypatch.setenv("CLIPZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def root(tmp_path) -> Path:
    """Two classes of six pictures each, and four changed copies: compressed, halved, mirrored in the other class, in another format."""
    root = tmp_path / "images"
    for number in range(12):
        path = root / "ab"[number % 2] / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(path)
    first, second, third, fourth = (Image.open(root / name).convert("RGB") for name in COPIES)
    first.save(root / COPIES["a/00.png"], quality=60)
    second.resize((32, 32), Image.Resampling.BICUBIC).save(root / COPIES["a/02.png"])
    ImageOps.mirror(third).save(root / COPIES["b/01.png"], quality=80)
    fourth.save(root / COPIES["b/03.png"])
    return root


def config_for(root: Path, near: str | None = "group", splits: dict | None = None, **dataset) -> Config:
    data = {"near_duplicates": near, "dataset": {"type": "ImageFolderDataset", "root": str(root), **dataset}}
    return Config.from_dict(tiny_config(root, data=data, splits={"num_folds": 3, **(splits or {})}, train={"epochs": 1}), "tiny")


def groups_of(data) -> dict[str, str]:
    return {case.id: case.group for case in data.cases}


def test_copies_share_a_group_and_all_other_images_keep_theirs(root):
    alone, joined = (groups_of(build_dataset(config_for(root, near))) for near in (None, "group"))
    assert all(group == case_id for case_id, group in alone.items())
    for original, copy in COPIES.items():
        assert joined[original] == joined[copy] and alone[original] != alone[copy]
    assert len(set(joined.values())) == 12 and all(joined[i] == i for i in alone if i not in {*COPIES, *COPIES.values()})


def test_folds_keep_copies_together_and_say_so(root, tmp_path, monkeypatch):
    digests = set()
    for near in (None, "group"):
        folds = build_folds(config_for(root, near), build_dataset(config_for(root, near)))
        digests.add(folds.digest)
        notes = [note for note in folds.notes if "near_duplicates" in note]
        together = [{a, b} <= set(getattr(s, part)) for a, b in COPIES.items() for s in folds.splits for part in ("train", "val", "test")]
        assert len(notes) == (near == "group") and (sum(together) == 12 if near else sum(together) < 12)
    assert len(digests) == 2, "the digest of the folds covers it"
    assert notes[0].startswith("4 sets of nearly equal images (8 images) share a group") and "group'): a/00 again.jpg, a/00.png" in notes[0]
    config = tmp_path / "mine.py"
    config.write_text(config_for(root).dump(), encoding="utf-8")
    with pytest.raises(SystemExit) as end:
        make_folds_command.main([str(config), "--out", str(tmp_path / "folds.json")])
    made = Folds.read(tmp_path / "folds.json")
    assert end.value.code == 0 and made.digest == folds.digest and notes[0] in made.notes
    given = {"type": "FromFile", "path": str(tmp_path / "folds.json"), "num_folds": None}
    again = config_for(root).plain() | {"splits": {key: value for key, value in given.items() if value}}
    assert build_folds(Config.from_dict(again, "again"), build_dataset(config_for(root))).digest == made.digest
    with pytest.raises(DataError, match="changed groups"):
        build_folds(Config.from_dict(again, "again"), build_dataset(config_for(root, None)))


def test_the_search_is_remembered_until_a_file_changes(root, monkeypatch, cache):
    looked = []
    monkeypatch.setattr(near_duplicates, "facts_of", lambda *given: looked.append(1) or image_facts.facts_of(*given))
    shown = []

    def show(*work):
        shown.append(work)
        return nullcontext(shown.append)

    data = build_dataset(config_for(root), show=show)
    first = groups_of(data)
    assert shown[0] == ("near duplicates", len(data), "images") and shown[-1] == len(data), "the first search takes long"
    del shown[:]
    assert groups_of(build_dataset(config_for(root), show=show)) == first and len(looked) == 1 and not shown
    (root / COPIES["b/03.png"]).unlink()
    assert len(set(groups_of(build_dataset(config_for(root))).values())) == 12 and len(looked) == 2
    (root / "a" / "00.png").write_bytes((root / "a" / "00.png").read_bytes()[:900])
    for _ in range(2):
        assert groups_of(build_dataset(config_for(root)))["a/00.png"] == "a/00.png"
    assert len(looked) == 4, "not with an image that cannot be decoded"


def test_what_a_subclass_makes_of_files_is_searched_anew(root, monkeypatch, cache):
    """Its pictures may change with its code or its arguments, of which the remembered record knows nothing."""

    class Window(ImageFolderDataset):
        flat = True

        def read_image(self, row):
            image = super().read_image(row)
            return Image.new("RGB", (16, 16), (len(image.tobytes()) + row) % 256) if self.flat else image

    monkeypatch.setitem(DATASETS._classes, "Window", Window)
    config = config_for(root, type="Window")
    assert len(set(groups_of(build_dataset(config)).values())) == 16 and not cache.exists()
    monkeypatch.setattr(Window, "flat", False)
    assert len(set(groups_of(build_dataset(config)).values())) == 12, "the copies are found, and no earlier answer is believed"


def test_a_dry_run_remembers_nothing(root, tmp_path, quiet, cache):
    for is_dry in (True, False):
        validation = CrossValidation(config_for(root), tmp_path / "run", console=quiet, is_dry=is_dry)
        dry_run(validation)
        assert len({case.group for case in validation.dataset.cases}) == 12 and cache.exists() != is_dry


def test_units_of_joined_groups_are_named(root, tmp_path, quiet):
    """``b/01`` has a copy in the other class, ``a/00`` one in its own."""
    grouped = {**config_for(root).plain(), "evaluation": {"unit": "group"}}
    with pytest.raises(ConfigError, match="evaluation.unit: .* 'a' and 'b'. data.near_duplicates joined it of several groups"):
        CrossValidation(Config.from_dict(grouped, "tiny"), tmp_path / "run", console=quiet)
    (root / COPIES["b/01.png"]).unlink()
    config = Config.from_dict(grouped, "tiny")
    (note,) = joined_units(config, build_dataset(config))
    assert "data.near_duplicates='group'" in note and note.endswith("15 groups of the data make 12")
    assert joined_units(config_for(root), build_dataset(config_for(root))) == []


def search_alone(config: str, folder: str, rank: int) -> None:
    """Build the dataset, note whether this process looked at images, and the groups it found."""
    looked = []
    near_duplicates._TURN_SECONDS = -1.0
    original = near_duplicates.facts_of
    near_duplicates.facts_of = lambda *given: looked.append(1) or original(*given)
    groups = groups_of(build.dataset(Config.load(config)))
    Path(folder, f"{rank}.json").write_text(json.dumps({"groups": groups, "looked": len(looked)}))


@pytest.mark.slow
def test_with_several_processes_only_the_first_searches(root, tmp_path, cache):
    (tmp_path / "tiny.py").write_text(config_for(root).dump(), encoding="utf-8")
    launch(__file__, tmp_path / "tiny.py", tmp_path)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first["looked"] == 1 and second["looked"] == 0
    assert first["groups"] == second["groups"] == groups_of(build_dataset(config_for(root))) and len(set(first["groups"].values())) == 12


def test_patients_are_joined_and_views_are_not(root):
    """Two patients whose images are nearly equal are one group of two cases."""
    pattern = {"group_pattern": "^([0-9]+)"}
    for case_id, group in groups_of(build_dataset(config_for(root, **pattern))).items():
        assert group == case_id.partition("/")[2][:2]
    picture(4).convert("L").save(root / "a" / "77.jpg", quality=70)
    data = build_dataset(config_for(root, **pattern))
    picture(4).save(root / "a" / "78.jpg", quality=70)
    data = build_dataset(config_for(root, **pattern))
    assert groups_of(data)["a/78.jpg"] == groups_of(data)["a/04.png"] and data.given_groups["a/78.jpg"] == "78"
    (root / COPIES["b/01.png"]).unlink()  # of another class
    views = config_for(root, **pattern).plain()
    views["data"]["views"] = "group"
    cases = build_dataset(Config.from_dict(views, "views"))
    assert groups_of(cases)["a/78.jpg"] == groups_of(cases)["a/04.png"] and len(cases) == len(cases.single_images) - 3


def test_given_parts_that_divide_copies_are_refused(root, tmp_path):
    (tmp_path / "test" / "a").mkdir(parents=True)
    (tmp_path / "test" / "b").mkdir()
    picture(0).save(tmp_path / "test" / "a" / "copy.jpg", quality=70)
    picture(99).save(tmp_path / "test" / "b" / "other.jpg", quality=70)
    given = {"test_root": str(tmp_path / "test")}
    for near in (None, "group"):
        config = config_for(root, near, **given).plain() | {"splits": {"type": "AsGiven", "val_fraction": 0.0}}
        config = Config.from_dict(config, "given")
        if near is None:
            build_folds(config, build_dataset(config))
        else:
            with pytest.raises(LeakError, match="a/00|copy.jpg"):
                build_folds(config, build_dataset(config))


def test_too_many_pairs_are_an_error(root, monkeypatch):
    monkeypatch.setattr(near_duplicates, "MOST_PAIRS", 3)
    with pytest.raises(DataError, match="data.near_duplicates: more than 3 pairs .* Remove data.near_duplicates"):
        build_dataset(config_for(root))


@pytest.mark.slow
def test_the_doctor_has_nothing_left_to_say(root):
    found = {near: {finding.check for finding in check_data(config_for(root, near)).findings} for near in (None, "group")}
    assert {"near_conflict", "near_leak"} <= found[None]
    assert not {check for check in found["group"] if "leak" in check or "groups" in check} and "near_conflict" in found["group"]


@pytest.mark.slow
def test_a_run_notes_it_and_refuses_to_go_on_without(root, tmp_path, quiet):
    summary = CrossValidation(config_for(root), tmp_path / "run", console=quiet).train()
    assert any("4 sets of nearly equal images" in note for note in summary.notes)
    assert any("4 sets of nearly equal images" in note for note in Folds.read(tmp_path / "run" / "folds.json").notes)
    with pytest.raises(CheckpointError, match="near_duplicates"):
        CrossValidation(config_for(root, None), tmp_path / "run", console=quiet).train()


if __name__ == "__main__":
    in_processes(2, partial(search_alone, sys.argv[1], sys.argv[2]), Path(sys.argv[2]))
