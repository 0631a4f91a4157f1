"""Equal and nearly equal images, and where they are."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageOps

from clipzoo.datasets.inspection import similar as module
from clipzoo.datasets.inspection.image_facts import FileFact
from clipzoo.datasets.inspection.similar import Pair, details, find_pairs, hashes


def fact(image: Image.Image, number: int = 0) -> FileFact:
    from clipzoo.datasets.inspection.image_facts import _with_pixels

    return _with_pixels(FileFact(str(number)), image)


def changed(image: Image.Image, how: str, tmp_path) -> Image.Image:
    if how == "smaller":
        return image.resize((40, 40))
    if how == "larger":
        return image.resize((150, 150), Image.Resampling.BICUBIC)
    image = ImageOps.mirror(image) if how == "mirrored" else image
    image.save(tmp_path / "x.jpg", quality=35)
    return Image.open(tmp_path / "x.jpg").convert("RGB")


@pytest.mark.parametrize(("how", "kind"), [("recompressed", "near"), ("smaller", "near"), ("larger", "near"), ("mirrored", "mirrored")])
def test_changed_copies_are_found_and_nothing_else(pictures, tmp_path, how, kind):
    images = [pictures(number) for number in range(40)]
    copies = [changed(image, how, tmp_path) for image in images[:10]]
    found = find_pairs([fact(image) for image in [*images, *copies]])
    assert [(pair.first, pair.second, pair.kind) for pair in found] == [(n, 40 + n, kind) for n in range(10)]
    assert all(module.LEAST_SIMILAR <= pair.similarity <= 1.0001 for pair in found)


def test_equal_pixels_in_another_format(folder, checked, names, pictures):
    pictures(1).save(folder / "b" / "again.bmp")  # 01.png is in b too
    assert names(checked(), "copies_leak") + names(checked(), "copies_groups") == [("b/01.png", "b/again.bmp")]


def test_blocks_give_the_same_pairs_as_a_loop(pictures, monkeypatch):
    images = [pictures(number) for number in range(20)]
    facts = [fact(image) for image in [*images, *(ImageOps.mirror(image.resize((50, 50))) for image in images), *images[3:5]]]
    whole = find_pairs(facts)
    monkeypatch.setattr(module, "_BLOCK", 7)
    monkeypatch.setattr(module, "_CANDIDATES", 3)
    assert find_pairs(facts) == whole
    rows, small = module.small_pictures(facts)
    wanted = set()
    for kind, other in (("near", small), ("mirrored", small[:, :, ::-1])):
        bits, other_bits, d, other_d = hashes(small), hashes(other), details(small), details(other)
        for a in range(40):
            for b in range(a + 1, 40):
                if (bits[a] != other_bits[b]).sum() <= module.MOST_DIFFERENT and d[a] @ other_d[b] >= module.LEAST_SIMILAR:
                    wanted.add((a, b, kind))
    assert {(p.first, p.second, p.kind) for p in whole if p.kind in ("near", "mirrored")} == wanted and len(wanted) == 20
    assert [p for p in whole if p.kind == "pixels"] == [Pair(3, 40, "pixels"), Pair(4, 41, "pixels")]


def test_the_frequencies_are_those_of_scipy(pictures):
    from scipy.fft import dctn

    _, small = module.small_pictures([fact(pictures(number)) for number in range(3)])
    wanted = dctn(small.astype(np.float64), axes=(1, 2))[:, :9, :9] / 4
    np.testing.assert_allclose(module.frequencies(small, 9), wanted, rtol=1e-4, atol=1e-2)


def test_equal_hashes_with_other_details_are_no_pair():
    """Two radiographs of one joint: the same large shapes, other textures."""
    rng = np.random.default_rng(0)
    shapes = np.asarray(Image.fromarray(rng.integers(40, 200, (5, 5), dtype=np.uint8)).resize((64, 64), Image.Resampling.BICUBIC))
    wave = np.cos(np.pi * (np.arange(64) + 0.5) / 64 * np.array([[3], [11]]))  # 11 is above the frequencies of the hash
    textures = [25 * np.outer(wave[0], wave[1]), 25 * np.outer(wave[1], wave[0])]
    facts = [fact(Image.fromarray(np.clip(shapes + texture, 0, 255).astype(np.uint8)), number) for number, texture in enumerate(textures)]
    one, other = hashes(module.small_pictures(facts)[1])
    assert (one != other).sum() <= module.MOST_DIFFERENT and find_pairs(facts) == []


def test_flat_pictures_are_in_no_pair():
    """Neither of one colour, nor with the same faint shading."""
    shading = np.tile(np.linspace(100, 105, 64).astype(np.uint8), (64, 1))
    images = []
    for number in range(3):
        shading[number, 0] = 99
        images.append(Image.fromarray(shading.copy()))
    images += [Image.new("L", (64, 64), level) for level in (3, 100, 101)]
    assert find_pairs([fact(image) for image in images]) == []


def test_the_search_ends(pictures):
    facts = [fact(pictures(0).resize((64 + number, 64))) for number in range(8)]
    assert len(find_pairs(facts)) == 28
    assert len(find_pairs(facts, most=5)) == 5


def test_where_pairs_are(folder, checked, names, pictures):
    """Across classes, across parts, and inside a group."""
    pictures(0).save(folder / "b" / "x.jpg", quality=60)
    pictures(2).save(folder / "a" / "y.jpg", quality=60)
    groups = folder.parent / "groups.csv"
    ids = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.*"))
    patient = {"a/04.png": "P1", "a/06.png": "P1"}
    groups.write_text("path,group\n" + "".join(f"{i},{patient.get(i, i)}\n" for i in ids), encoding="utf-8")
    pictures(4).rotate(0).save(folder / "a" / "06.png")  # a copy of 04.png
    report = checked(dataset={"groups": str(groups)})
    assert names(report, "near_conflict") == [("a/00.png", "b/x.jpg")]
    assert names(report, "near_leak") + names(report, "near_groups") == [("a/02.png", "a/y.jpg")]
    assert names(report, "copies_inside") == [("a/04.png", "a/06.png")]


def test_the_same_bytes_in_two_classes_are_an_error(folder, checked, names):
    (folder / "b" / "copy.png").write_bytes((folder / "a" / "00.png").read_bytes())
    report = checked()
    assert names(report, "copies_conflict") == [("a/00.png", "b/copy.png")]
    assert [finding.level for finding in report.findings if finding.check in ("copies_conflict", "refused")] == ["error", "error"]
    accepted = checked(dataset={"allow_label_conflicts": True})
    assert [finding.level for finding in accepted.findings if finding.check in ("copies_conflict", "refused")] == ["warning"]


def test_the_same_bytes_of_two_patients(folder, checked, names):
    (folder / "a" / "copy.png").write_bytes((folder / "a" / "00.png").read_bytes())
    assert names(checked(), "copies_inside") == [("a/00.png", "a/copy.png")], "without patients, the dataset keeps them together"
    report = checked(dataset={"group_pattern": r"^(\w\w)"})
    assert names(report, "copies_groups") == [("a/00.png", "a/copy.png")]
