"""Pairs in WebDataset shards: the same cases whoever wrote them, and one clear line for each mistake."""

import gzip
import io
import json
import os
import tarfile
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from PIL import Image

from clipzoo.datasets import ShardPairs
from clipzoo.datasets.batches.epochs import EpochBatches
from clipzoo.datasets.batches.loader import eval_loader, train_loader
from clipzoo.datasets.batches.samplers import RandomSampler
from clipzoo.datasets.shards import index
from clipzoo.datasets.shards.paths import expanded_braces, shard_paths
from clipzoo.datasets.shards.write import Sample, write_shards
from clipzoo.datasets.splitters import AsGiven, StratifiedGroupKFold
from clipzoo.errors import ConfigError, DataError, LeakError
from clipzoo.watching import shown_by


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("CLIPZOO_CACHE", str(tmp_path / "cache"))


def png(value):
    content = io.BytesIO()
    Image.fromarray(np.full((4, 6), value, np.uint8)).save(content, "PNG")
    return content.getvalue()


def write_tar(path, members, format=tarfile.PAX_FORMAT):
    """Members as (name, content); a text becomes UTF-8."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=format) as archive:
        for name, content in members:
            content = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def samples(first=0, number=4):
    """As img2dataset writes them."""
    for i in range(first, first + number):
        caption = "一只猫" if i % 4 == 0 else f"picture {i}"
        yield from [(f"{i:09d}.png", png(i)), (f"{i:09d}.txt", caption), (f"{i:09d}.json", json.dumps({"caption": caption, "url": "x"}))]


@pytest.fixture
def folder(tmp_path):
    for shard in range(3):
        write_tar(tmp_path / "data" / f"{shard:05d}.tar", samples(4 * shard))
    return tmp_path / "data"


def captions_of(data):
    return {case.id: [data.captions.sentences[i] for i in data.captions_of(row)] for row, case in enumerate(data.cases)}


def test_shards_are_cases_with_images_and_distinct_captions(folder):
    data = ShardPairs(str(folder))
    assert [case.id for case in data.cases][:2] == ["00000.tar/000000000.png", "00000.tar/000000001.png"] and len(data) == 12
    assert len(data.captions) == 10 and captions_of(data)["00001.tar/000000004.png"] == ["一只猫"]
    for row in range(12):
        assert data.read_image(row).getpixel((0, 0)) == (row, row, row) and data.encoded_image(row) == png(row)
    assert data.describe()[0] == f"ShardPairs 3 shards, from {folder}/00000.tar" and "describes 3" in data.describe()[3]
    assert data.task == "retrieval" and str(data.path_of(5)).endswith("00001.tar/000000005.png")


@pytest.mark.parametrize("named", ["{}", "{}/{{00000..00002}}.tar", "{}/*.tar", "{}/0000{{0,1,2}}.tar", "{}/0000[0-2].tar"])
def test_every_way_to_name_them(folder, named):
    assert shard_paths(named.format(folder)) == shard_paths([f"{folder}/00002.tar", f"{folder}/{{00000..00001}}.tar"])


def test_braces():
    assert expanded_braces("x{1..3}y{a,b}") == ["x1ya", "x1yb", "x2ya", "x2yb", "x3ya", "x3yb"]
    assert expanded_braces("{name}.tar") == ["{name}.tar"] and expanded_braces("a{098..101}") == ["a098", "a099", "a100", "a101"]
    for wrong in ("{9..1}", "{0..9999999}"):
        with pytest.raises(DataError, match="empty or too long"):
            expanded_braces(wrong)


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("{}/00003.tar", "no shard matches '.*00003.tar'. Did you mean '0000[012].tar'"),
        ("{}/{{00001..00005}}.tar", "no shard matches '.*00003.tar' .3 of 5 are missing: .*00003.tar, .*00004.tar"),
        ("{}/*.tgz", "no shard matches"),
        ("{}/..", "no shard .*.tar. in this folder"),
        (["{}/00000.tar", "{}"], "00000.tar: this shard is named twice"),
        ([], "the list is empty"),
    ],
)
def test_names_that_match_nothing_or_twice(folder, named, message):
    named = [one.format(folder) for one in named] if isinstance(named, list) else named.format(folder)
    with pytest.raises(DataError, match=message) as error:
        ShardPairs(named)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_long_and_foreign_names(tmp_path, format):
    name = "/".join(["ordner" * 10] * (2 if format == tarfile.USTAR_FORMAT else 6)) + "/" + "n" * 80
    name = name if format == tarfile.USTAR_FORMAT else f"{name}-髋关节"
    path = write_tar(tmp_path / "a.tar", [(f"{name}.png", png(7)), (f"{name}.txt", "a cat")], format)
    data = ShardPairs(str(path))
    assert [case.id for case in data.cases] == [f"a.tar/{name}.png"] and data.encoded_image(0) == png(7)


def test_what_webdataset_writes_is_read_and_what_is_written_is_read_by_webdataset(tmp_path):
    webdataset = pytest.importorskip("webdataset")
    with webdataset.ShardWriter(str(tmp_path / "theirs-%03d.tar"), maxcount=2, verbose=0) as writer:
        for i in range(5):
            writer.write({"__key__": f"sample{i}", "png": png(i), "txt": f"text {i}", "json": {"caption": f"text {i}", "patient": i // 2}})
    data = ShardPairs(str(tmp_path / "theirs-{000..002}.tar"), group_key="patient")
    assert [captions_of(data)[case.id] for case in data.cases] == [[f"text {i}"] for i in range(5)]
    assert [case.group for case in data.cases] == ["0", "0", "1", "1", "2"] and [data.encoded_image(i) for i in range(5)] == [
        *map(png, range(5))
    ]

    images = [tmp_path / f"{i}.png" for i in range(5)]
    for i, image in enumerate(images):
        image.write_bytes(png(i))
    made = [Sample(image.name, str(image), [f"一 {i}"] if i else ["a", "b"], "g") for i, image in enumerate(images)]
    assert write_shards(tmp_path / "ours", made, 2) == 3
    read = list(webdataset.WebDataset(sorted(map(str, (tmp_path / "ours").iterdir())), shardshuffle=False).decode())
    assert [sample["__key__"] for sample in read] == [f"{i:09d}" for i in range(5)] and read[0]["json"]["caption"] == ["a", "b"]
    assert [sample["txt"] for sample in read] == ["a", *(f"一 {i}" for i in range(1, 5))] and read[4]["json"]["group"] == "g"
    again = ShardPairs(str(tmp_path / "ours"), group_key="group")
    assert [captions_of(again)[case.id] for case in again.cases] == [["a", "b"], *([f"一 {i}"] for i in range(1, 5))]
    write_shards(tmp_path / "same", made, 2)
    assert [p.read_bytes() for p in sorted((tmp_path / "same").iterdir())] == [
        p.read_bytes() for p in sorted((tmp_path / "ours").iterdir())
    ]
    with pytest.raises(DataError, match="already exists"):
        write_shards(tmp_path / "same", made)
    with pytest.raises(DataError, match="must end in one of"):
        write_shards(tmp_path / "odd", [Sample("a", str(tmp_path / "a.dcm"), ["x"])])
    assert not (tmp_path / "odd").exists(), "a folder appears when all of it is written"


def test_a_shard_is_read_once_and_the_progress_is_shown(folder, monkeypatch):
    seen: list = []

    @contextmanager
    def show(what, total, unit):
        seen.append((what, total, unit))
        yield seen.append

    with shown_by(show):
        first = ShardPairs(str(folder))
        number = len(list(folder.iterdir()))
        assert seen == [("indexing shards", number, "shards"), *range(1, number + 1)]
        ShardPairs(str(folder))
        assert len(seen) == 1 + number, "nothing to do, nothing to show"
    monkeypatch.setattr(index, "_members", None)
    again = ShardPairs(str(folder))
    assert again.cases == first.cases and captions_of(again) == captions_of(first) and again.encoded_image(3) == png(3)


@pytest.mark.parametrize("damage", ["cut", "text", "version"])
def test_a_damaged_index_is_made_again(folder, tmp_path, damage):
    first = ShardPairs(str(folder))
    for path in (tmp_path / "cache" / "shards").iterdir():
        content = path.read_text(encoding="utf-8")
        path.write_text({"cut": content[:99], "text": content.replace("picture", "Picture"), "version": "{}"}[damage], encoding="utf-8")
    assert captions_of(ShardPairs(str(folder))) == captions_of(first)


def test_without_a_cache_folder(folder, tmp_path):
    (tmp_path / "cache").write_text("a file in its place")
    assert len(ShardPairs(str(folder))) == 12


def test_a_changed_shard_is_refused_while_it_is_used_and_indexed_again_at_the_next_start(folder):
    data = ShardPairs(str(folder))
    write_tar(folder / "00001.tar", [*samples(40), ("x.png", png(9)), ("x.txt", "new")])
    assert data.encoded_image(0) == png(0)
    with pytest.raises(DataError, match="00001.tar: the shard changed since it was indexed. Start again"):
        data.read_image(5)
    assert len(ShardPairs(str(folder))) == 13
    os.remove(folder / "00001.tar")
    with pytest.raises(DataError, match="00001.tar: cannot be read .No such file"):
        data.read_image(5)


def test_every_truncation_is_found(folder):
    path = folder / "00000.tar"
    content = path.read_bytes()
    end = len(content.rstrip(b"\0"))
    for cut in (0, 1, 300, 512, 513, 800, 1024, 1536, 4000, end - 200, -(-end // 512) * 512):
        path.write_bytes(content[:cut])
        with pytest.raises(DataError, match="00000.tar: (truncated|not a tar file, or truncated|the shard is empty)") as error:
            ShardPairs(str(folder))
        assert "\n" not in str(error.value)


def refused(tmp_path, members, message, **arguments):
    path = members if not isinstance(members, list) else write_tar(tmp_path / "a.tar", members)
    with pytest.raises(DataError, match=message) as error:
        ShardPairs(str(path), **arguments)
    assert "\n" not in str(error.value) and str(path) in str(error.value)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("1.png", png(1))], "sample '1' has no caption. Add it as NAME.txt"),
        ([("1.png", png(1)), ("1.txt", " \n"), ("2.txt", "x")], "sample '1' has no caption .and 1 more samples: '2' has no image"),
        ([("1.txt", "a"), ("1.json", "{}")], "sample '1' has no image"),
        ([("1.png", png(1)), ("1.jpg", png(1)), ("1.txt", "a")], "sample '1' has 2 images: 1.png, 1.jpg"),
        ([("1.png", png(1)), ("1.png", png(2)), ("1.txt", "a")], "the member '1.png' occurs twice"),
        ([("1.png", png(1)), ("1.txt", "a"), ("2.png", png(2)), ("2.txt", "b"), ("1.json", "{}")], "two samples have the key '1'"),
        ([("1.png", b""), ("1.txt", "a")], "1.png: the image is empty"),
        ([("1.png", png(1)), ("1.json", "[")], "1.json:1: not valid JSON"),
        ([("1.png", png(1)), ("1.json", "[]")], "1.json: must be an object"),
        ([("1.png", png(1)), ("1.json", '{"caption": 3}')], "'caption' must be a sentence"),
        ([("1.png", png(1)), ("1.txt", b"caf\xe9")], "1.txt:1: not UTF-8"),
        ([("readme", "hello")], "1 shards contain no image with a caption"),
    ],
)
def test_bad_samples(tmp_path, members, message):
    refused(tmp_path, members, message)


def test_compressed_and_other_files(folder, tmp_path):
    for name, content in (("a.tar.gz", gzip.compress((folder / "00000.tar").read_bytes())), ("b.tar", b"\x28\xb5\x2f\xfd" + bytes(600))):
        (tmp_path / name).write_bytes(content)
        refused(tmp_path, tmp_path / name, "compressed with (gzip|zstd).*Unpack it")
    (tmp_path / "c.tar").write_text("hello " * 200)
    refused(tmp_path, tmp_path / "c.tar", "not a tar file")


def test_incomplete_samples_are_left_out_on_request(tmp_path):
    members = [("1.png", png(1)), *samples(5), ("9.txt", "alone"), ("readme", "hello")]
    data = ShardPairs(str(write_tar(tmp_path / "a.tar", members)), skip_incomplete=True)
    assert len(data) == 4 and data.notes[:2] == (
        "2 samples without image or caption are left out: '1' has no caption, '9' has no image",
        "1 members of the shards are no part of a sample and were ignored",
    )


def test_groups_parts_and_identical_images(folder, tmp_path):
    described = [(f"P{i // 2}_{i}.json", json.dumps({"text": [f"a {i}", f"b {i}"], "patient": i // 2})) for i in range(6)]
    members = [member for i, one in enumerate(described) for member in ((f"P{i // 2}_{i}.png", png(i)), one)]
    path = str(write_tar(tmp_path / "own" / "a.tar", members))
    data = ShardPairs(path, caption_key="text", group_key="patient")
    assert [case.group for case in data.cases] == list("001122") and captions_of(data)["a.tar/P0_0.png"] == ["a 0", "b 0"]
    assert [case.group for case in ShardPairs(path, caption_key="text", group_pattern="^(P[0-9])_").cases] == ["P0"] * 2 + ["P1"] * 2 + [
        "P2"
    ] * 2
    with pytest.raises(DataError, match="'patients' must be a name or a whole number"):
        ShardPairs(path, caption_key="text", group_key="patients")
    with pytest.raises(ConfigError, match="mutually exclusive"):
        ShardPairs(path, group_key="a", group_pattern="b")
    write_tar(folder / "00007.tar", [("same.png", png(1)), ("same.txt", "again")])
    data = ShardPairs(str(folder))
    assert data.cases[data.rows["00007.tar/same.png"]].group == data.cases[1].group and any("byte-identical" in note for note in data.notes)
    given = ShardPairs(f"{folder}/00000.tar", test_shards=[f"{folder}/00001.tar", f"{folder}/00002.tar"])
    (split,) = AsGiven().split(given.cases, given.classes).splits
    assert len(split.train) == 4 and len(split.test) == 8
    with pytest.raises(LeakError, match="in the train and in the val part"):
        ShardPairs(str(folder), val_shards=f"{folder}/00001.tar")


@pytest.mark.slow
def test_folds_workers_and_a_restart_read_the_same(folder):
    data = ShardPairs(str(folder))
    folds = StratifiedGroupKFold(num_folds=3).split(data.cases, data.classes)
    rows = data.rows_of(folds.splits[0].train)

    def transform(image):
        return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() + torch.rand(1)

    found = []
    for workers, start in ((0, 0), (2, 0), (2, 1)):
        batches = EpochBatches(data, rows, RandomSampler(), batch_size=3, seed=1)
        batches.set_epoch(4, start)
        loader = train_loader(data, batches, transform, None, all_captions=False, num_workers=workers, pin_memory=False)
        found.append([(batch.cases.tolist(), batch.images) for batch in loader])
        loader.close()
    assert [cases for cases, _ in found[0]] == [cases for cases, _ in found[1]] and len(found[0]) > 1
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(found[0], found[1], strict=True))
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(found[0][1:], found[2], strict=True)), "a restart in the middle"
    loader = eval_loader(data, rows, transform, batch_size=4, num_workers=2, pin_memory=False)
    assert sum(len(batch) for batch in loader) == len(rows)
    loader.close()


def test_damaged_images_are_found_at_the_start_and_sound_ones_remembered(folder, monkeypatch):
    import logging

    from rich.console import Console

    from clipzoo.config import Config
    from clipzoo.engine.checks.images import check_images

    config = Config.from_dict({"data": {"dataset": {"type": "ShardPairs", "shards": str(folder)}}}, "x")
    arguments = {"log": logging.getLogger("x"), "console": Console(quiet=True)}
    assert check_images(ShardPairs(str(folder)), config, **arguments) == []
    with monkeypatch.context() as patch:
        patch.setattr(ShardPairs, "decode_image", None)
        assert check_images(ShardPairs(str(folder)), config, **arguments) == []
    write_tar(folder / "00009.tar", [("bad.png", png(3)[:40]), ("bad.txt", "a")])
    with pytest.raises(DataError, match="00009.tar.*bad.png"):
        check_images(ShardPairs(str(folder)), config, **arguments)


def test_the_image_cache_keeps_images_of_shards(folder, tmp_path):
    from clipzoo.datasets.image_cache.cache import ImageCache
    from clipzoo.structures import Preprocessing

    data, preprocessing = ShardPairs(str(folder)), Preprocessing(size=2)
    kept = [ImageCache.of(str(tmp_path / "images"), 1.0).images(data, preprocessing) for _ in range(2)]
    expected = [kept[0].fit(data.read_image(row)) for row in range(12)]
    assert all(torch.equal(kept[0](row), expected[row]) for row in range(12)) and kept[0].after_batch() == []
    data.decode_image = None
    assert all(torch.equal(kept[1](row), expected[row]) for row in range(12)), "decoded once"
