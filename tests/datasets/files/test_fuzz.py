"""Whatever the files of a user hold, their readers give a result or one clear error: no traceback, and no end that never comes."""

import io
import json
import random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tiff_files import tiff

from clipzoo.datasets.files.attributes import read_attributes
from clipzoo.datasets.files.class_list import read_annotations, read_class_list
from clipzoo.datasets.files.class_texts import read_class_texts
from clipzoo.datasets.files.groups import groups_from_table
from clipzoo.datasets.files.images import decode
from clipzoo.datasets.files.pairs import Keys, read_pairs
from clipzoo.datasets.pairs import PairsDataset
from clipzoo.datasets.table import TableDataset
from clipzoo.errors import ConfigError, DataError

FEW, MANY = 40, 2_000
ARGUMENTS = {"deadline": None, "derandomize": True, "suppress_health_check": list(HealthCheck)}
CLASSES = ["cat", "dog"]
IDS = ["cat/a.png", "dog/b.png"]

ODD = st.sampled_from(
    [
        "\x00",
        "\ufeff",
        "\r",
        "\u2028",
        "\x1b[2J",
        "\u202e",
        "e\u0301",
        "\ud7ff",
        "😀",
        '"',
        "'",
        "\\ud800",
        "1e999",
        "NaN",
        "9" * 5_000,
        "=1+1",
        "..",
    ]
)
WORDS = st.sampled_from(
    ["cat", "dog", "cat ", "image_path", "caption", "path", "group", "images/a.png", "cat/a.png", "dog/b.png", "n01", "x"]
)
TEXT = st.text(max_size=8) | WORDS | ODD
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
JSON = VALUES.map(lambda value: json.dumps(value, ensure_ascii=False)) | st.lists(TEXT | st.sampled_from(list('{}[]:,"')), max_size=30).map(
    "".join
)
TABLE = st.builds(
    lambda rows, separator, end: end.join(separator.join(row) for row in rows),
    st.lists(st.lists(TEXT, min_size=1, max_size=4), max_size=6),
    st.sampled_from([",", "\t", ";", " "]),
    st.sampled_from(["\n", "\r\n", "\r"]),
)
ENCODINGS = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "gbk", "latin-1"])


def as_bytes(text, encoding, cut):
    """Encoded as well as it can be, and maybe with an odd end."""
    return text.encode(encoding, "replace") + cut


CONTENT = st.builds(as_bytes, JSON | TABLE, ENCODINGS, st.sampled_from([b"", b"\xff", b"\xe7\x8c", b"\0"])) | st.binary(max_size=60)

READERS = {
    "class_texts.json": lambda path: read_class_texts(str(path), CLASSES),
    "class_list.json": read_class_list,
    "class_list.csv": read_class_list,
    "words.txt": read_class_list,
    "annotations.json": read_annotations,
    "annotations.csv": read_annotations,
    "annotations.txt": read_annotations,
    "groups.csv": lambda path: groups_from_table(str(path), IDS, "images"),
    "attributes.csv": lambda path: read_attributes(str(path), IDS, "images"),
    "pairs.json": lambda path: read_pairs(str(path), Keys()),
    "pairs.csv": lambda path: read_pairs(str(path), Keys(separator="comma", group="group")),
    "pairs.tsv": lambda path: PairsDataset(str(path)),
    "table.csv": lambda path: TableDataset(str(path)),
}


GOOD = {
    "class_texts.json": '{"cat": ["it purrs", "a cat"],\n "dog": "it barks"}',
    "class_list.json": '{"n01": "slug", "n02": ["crane", "Grus"]}',
    "class_list.csv": 'folder,name\nn01,slug\nn02,"crane, Grus"\n',
    "words.txt": "n01\tslug\nn02\tcrane, Grus\n",
    "annotations.json": '{"val_0.JPEG": "n01", "val_1.JPEG": "n02"}',
    "annotations.csv": "image,class\nval_0.JPEG,n01\nval_1.JPEG,n02\n",
    "annotations.txt": "val_0.JPEG\tn01\t0\t0\t7\t5\nval_1.JPEG\tn02\t0\t0\t7\t5\n",
    "groups.csv": "path,group\ncat/a.png,p1\ndog/b.png,p2\n",
    "attributes.csv": "path,sex,view\ncat/a.png,f,ap\ndog/b.png,m,\n",
    "pairs.json": '[{"image_path": "images/a.png", "caption": ["a cat", "purrs"]},\n {"image_path": "images/b.png", "caption": "a dog"}]',
    "pairs.csv": 'image_path,caption,group\nimages/a.png,"a cat, asleep",p1\nimages/b.png,a dog,p2\n',
    "table.csv": "path,label,group\nimages/a.png,cat,p1\nimages/b.png,dog,p2\n",
    "pairs.tsv": "filepath\ttitle\nimages/a.png\ta cat\nimages/b.png\ta dog\n",
}


def check(read, where):
    """No error but ours, in one line that can be written."""
    try:
        read()
    except (DataError, ConfigError) as error:
        assert where in str(error)
        str(error).encode("utf-8")


def mutated(content, generator):
    """The file with a few bytes changed, mostly in its head; or cut, or with bytes put in or left out."""
    damaged = bytearray(content)
    for _ in range(generator.randrange(1, 6)):
        place = generator.randrange(min(len(damaged), generator.choice([40, 200, 10**9])) or 1)
        kind = generator.randrange(6)
        if kind < 3:
            damaged[place : place + 1] = bytes([generator.choice([0, 1, 127, 128, 255, generator.randrange(256)])])
        elif kind == 3:
            damaged[place : place + 4] = generator.randbytes(4)
        elif kind == 4:
            del damaged[place : place + generator.randrange(1, 9)]
        else:
            damaged[place:place] = generator.randbytes(generator.randrange(1, 9))
    return bytes(damaged[: generator.randrange(len(damaged) + 1)] if generator.random() < 0.1 else damaged)


def read_fuzzed(folder, name, number):
    @settings(max_examples=number, **ARGUMENTS)
    @given(CONTENT | st.integers(0, 10**6).map(lambda seed: mutated(GOOD[name].encode(), random.Random(seed))))
    def fuzzed(content):
        (folder / name).write_bytes(content)
        check(lambda: READERS[name](folder / name), name)

    fuzzed()


@pytest.mark.parametrize("name", READERS)
def test_tables_and_json_of_any_content(tmp_path, name):
    (tmp_path / name).write_text(GOOD[name])
    if name not in ("pairs.tsv", "table.csv"):  # whose images are not there
        READERS[name](tmp_path / name)
    read_fuzzed(tmp_path, name, FEW)


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_tables_and_json_of_two_thousand_contents(tmp_path, name):
    read_fuzzed(tmp_path, name, MANY)


# ---- images ----


def some_images():
    """A small valid file of every format, some with metadata."""
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "x"
    found = {}
    for name, options in {
        "PNG": {"exif": exif}, "JPEG": {"exif": exif, "comment": b"x"}, "BMP": {}, "WEBP": {"exif": exif, "lossless": True}, "PPM": {},
    }.items():  # fmt: skip
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, name, **options)
        found[name] = stream.getvalue()
    wide = pixels[..., 0].astype(np.uint16) * 200
    found["PGM of 16 bits"] = b"P5 7 9 65535\n" + wide.astype(">u2").tobytes()
    found["TIFF"] = tiff(pixels, 2, tags={274: (3, 5), 305: (2, b"x" * 20)}, rows=4)
    found["TIFF of 16 bits"] = tiff(wide, order=">", tile=16)
    found["TIFF, LZW"] = tiff(wide, compression="lzw", rows=4, predictor=True)
    found["BigTIFF, deflate"] = tiff(pixels[..., 0].astype(np.float32), 0, compression="deflate", big=True)
    found["TIFF with a palette"] = tiff(pixels[..., 0], 3, tags={320: (3, list(range(0, 61_440, 80)))})
    return found


IMAGES = some_images()


def decode_mutated(name, number):
    generator = random.Random(f"images of {name}")
    for _ in range(number):
        content = mutated(IMAGES[name], generator)
        try:
            assert decode(content).mode == "RGB"
        except DataError as error:
            assert "\n" not in str(error)


@pytest.mark.filterwarnings("error")  # a warning in the middle of a run is no clear line either
@pytest.mark.parametrize("name", IMAGES)
def test_images_of_any_content(name):
    assert decode(IMAGES[name]).mode == "RGB"
    decode_mutated(name, FEW)


@pytest.mark.slow
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", IMAGES)
def test_images_of_two_thousand_contents(name):
    decode_mutated(name, MANY)
