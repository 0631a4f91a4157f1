"""Sample data for trying everything out without a download: real handwritten digits, drawn radiographs, drawn scenes with captions.

Requires only numpy, Pillow and scikit-learn. The same arguments produce the same files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, get_args

from clipzoo.errors import DataError, did_you_mean
from clipzoo.files import new_folder, write_json, write_text
from clipzoo.text import csv_text

Kind = Literal["digits", "hip", "pairs"]
Progress = Callable[[int, int], None]

DIGIT_TEXTS = {
    "数字0": "手写数字零，一个闭合的椭圆形圆圈，中间是空的",
    "数字1": "手写数字一，一条从上到下的竖线",
    "数字2": "手写数字二，上面是弯钩，底部是一条横线",
    "数字3": "手写数字三，右侧两个上下相连的半圆",
    "数字4": "手写数字四，左上开口，横线与长竖线交叉",
    "数字5": "手写数字五，顶部一横，下面是向右鼓出的弯",
    "数字6": "手写数字六，长弧向下，底部是闭合的小圈",
    "数字7": "手写数字七，顶部一横，再斜着向左下",
    "数字8": "手写数字八，上下叠着的两个闭合小圈",
    "数字9": "手写数字九，顶部是闭合的小圈，尾巴向下",
}

_DIGITS_README = """\
示例数据：手写数字  /  Sample data: handwritten digits

真实的手写数字图像，来自 scikit-learn 自带的 digits 数据集（UCI Optical Recognition of Handwritten Digits，
8x8 像素），双三次插值放大到 32x32。images/ 下每个类别一个文件夹；class_texts.json 是每个类别的中文描述。

Real handwritten digits, from the digits dataset that scikit-learn ships (UCI Optical Recognition of Handwritten
Digits, 8x8 pixels), enlarged to 32x32 by bicubic interpolation. One folder per class below images/;
class_texts.json describes every class in Chinese.
"""

_HIP_README = """\
示例数据：髋关节假体（画出来的）  /  Sample data: hip prostheses (drawn)

这里的"X 光片"全部是由程序画出来的示意图，不是任何病人的影像，没有医学意义，只用于试用和测试程序。
每个"病人"（文件名 P012_view2.png 中的 P012）有一种假体和若干张不同体位、曝光的图；groups.csv 记录同一病人的图。
findings.csv 是同一批图的多标签表：图上是否画有骨水泥、金属臼杯、股骨柄、环扎钢丝（1 有，0 无）。
图像为 16 位灰度 PNG，数值范围约 12 位，随曝光变化；只有 8 位的读图方法会把它们读成全白。

These "radiographs" are drawn by a program. They show no patient and mean nothing medically; they exist to try and
test the software. Every "patient" (P012 in P012_view2.png) has one prosthesis and several views of different pose
and exposure; groups.csv says which views belong together. findings.csv has several labels for each image: whether
cement, a metal cup, a stem and wires are drawn (1 or 0). The images are 16-bit gray PNGs with about 12 bits of
range, which varies with the exposure.
"""

_PAIRS_README = """\
示例数据：图文对（画出来的）  /  Sample data: image-text pairs (drawn)

由程序画出的彩色图形，配中文和英文描述。同一内容以两种形式给出：
  captions.json（中文）、captions_en.json（英文）：[{"image_path": "images/scene_0001.jpg", "caption": "…"}, …]
  captions/scene_0001.txt：与 images/scene_0001.jpg 同名的中文描述

Coloured shapes drawn by a program, with captions in Chinese and English, in two forms: JSON lists of image_path
(below this folder) and caption, and one text file (Chinese) per image.
"""


def create_sample_dataset(
    root: str | Path,
    kind: Kind = "digits",
    num_samples: int | None = None,
    seed: int = 0,
    *,
    progress: Progress | None = None,
) -> Path:
    """Create sample data in the new folder ``root``: either completely or not at all.

    * ``digits``: ``images/<class>/*.png``, 8-bit gray, 32 px, and ``class_texts.json``.
    * ``hip``: ``images/<class>/P012_view2.png``, 16-bit gray, not square, ``groups.csv`` and ``class_texts.json``. A patient has one class.
      ``findings.csv`` has several labels per image instead: cement, metal cup, stem and wires, as they are drawn.
    * ``pairs``: ``images/*.jpg``, ``captions.json``, ``captions_en.json`` and ``captions/*.txt``.

    Args:
        root: Target folder; must be missing or empty.
        kind: Kind of data, see above.
        num_samples: Number of images; ``None`` means all 1 797 digits, 240 radiographs, or 400 scenes.
        seed: Seed of the drawings and of the choice of digits.
        progress: Function called with (images written, images in total).

    Returns:
        ``root``. For class folders, the root of ``ImageFolderDataset`` is ``root / 'images'``.

    Raises:
        DataError: ``root`` is not empty or cannot be written, or ``num_samples`` is out of range.
    """
    if kind not in get_args(Kind):
        raise DataError(f"sample data: unknown kind {kind!r}.{did_you_mean(kind, get_args(Kind))} Known: {', '.join(get_args(Kind))}")
    root = Path(root)
    write = {"digits": _write_digits, "hip": _write_hip, "pairs": _write_pairs}[kind]
    defaults = {"digits": 1797, "hip": 240, "pairs": 400}
    count = defaults[kind] if num_samples is None else num_samples
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise DataError(f"{root}: already exists, is not empty, and will not be overwritten. Choose another folder, or remove it first")
    with new_folder(root) as temporary:
        for done in write(temporary, count, seed):
            if progress is not None:
                progress(done, count)
    return root


def _write_digits(folder: Path, count: int, seed: int) -> Iterator[int]:
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    if not len(DIGIT_TEXTS) <= count <= len(digits.target):
        raise DataError(f"sample data: num_samples={count}, but there are {len(digits.target)} digits of {len(DIGIT_TEXTS)} classes")
    names = list(DIGIT_TEXTS)
    for name in names:
        (folder / "images" / name).mkdir(parents=True)
    for done, index in enumerate(_even_subset(digits.target, count, seed), start=1):
        pixels = np.rint(digits.images[index] * (255 / 16)).astype(np.uint8)  # scikit-learn's digits are 0 … 16
        image = Image.fromarray(pixels).resize((32, 32), Image.Resampling.BICUBIC)
        image.save(folder / "images" / names[digits.target[index]] / f"digit_{index:04d}.png")
        yield done
    write_json(folder / "class_texts.json", DIGIT_TEXTS)
    write_text(folder / "README.txt", _DIGITS_README)


def _even_subset(labels, count: int, seed: int) -> list[int]:
    """``count`` positions of ``labels``, sorted: the first of every class in random order, then the second of every class, etc."""
    import numpy as np

    order = np.random.default_rng(seed).permutation(len(labels))
    turns: Counter[int] = Counter()
    ranked = []
    for index in order.tolist():
        label = int(labels[index])
        ranked.append((turns[label], label, index))
        turns[label] += 1
    return sorted(index for _, _, index in sorted(ranked)[:count])


def _write_hip(folder: Path, count: int, seed: int) -> Iterator[int]:
    from clipzoo.datasets.samples.phantoms import CLASS_TEXTS, FINDINGS, draw_view, make_patients

    if count < len(CLASS_TEXTS):
        raise DataError(f"sample data: num_samples={count} must be at least {len(CLASS_TEXTS)}, one for each class")
    for name in CLASS_TEXTS:
        (folder / "images" / name).mkdir(parents=True)
    rows, findings, done = [("path", "group")], [("path", "group", *FINDINGS)], 0
    for patient in make_patients(count, seed):
        for view in range(1, patient.num_views + 1):
            path = f"{patient.class_name}/{patient.id}_view{view}.png"
            draw_view(patient, view, seed).save(folder / "images" / path)
            rows.append((path, patient.id))
            present = (int(patient.class_name in classes) for classes in FINDINGS.values())
            findings.append((f"images/{path}", patient.id, *present))
            done += 1
            yield done
    write_text(folder / "groups.csv", csv_text(rows))
    write_text(folder / "findings.csv", csv_text(findings))
    write_json(folder / "class_texts.json", CLASS_TEXTS)
    write_text(folder / "README.txt", _HIP_README)


def _write_pairs(folder: Path, count: int, seed: int) -> Iterator[int]:
    from clipzoo.datasets.samples.scenes import draw_scene

    if count < 1:
        raise DataError(f"sample data: num_samples={count} must be at least 1")
    (folder / "images").mkdir()
    (folder / "captions").mkdir()
    chinese, english = [], []
    for number in range(1, count + 1):
        image, caption, caption_en = draw_scene(seed, number)
        name = f"scene_{number:04d}"
        image.save(folder / "images" / f"{name}.jpg", quality=92)
        (folder / "captions" / f"{name}.txt").write_text(caption + "\n", encoding="utf-8", newline="\n")
        chinese.append({"image_path": f"images/{name}.jpg", "caption": caption})
        english.append({"image_path": f"images/{name}.jpg", "caption": caption_en})
        yield number
    write_json(folder / "captions.json", chinese)
    write_json(folder / "captions_en.json", english)
    write_text(folder / "README.txt", _PAIRS_README)
