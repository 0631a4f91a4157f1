"""Drawn phantom radiographs of hips with a prosthesis: the patients, and single views of them.

The shapes are schematic: they differ as real kinds of prostheses do (cup, head, stem length and shape, cement), and depict no patient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from clipzoo.datasets.samples.phantom_anatomy import draw_body, draw_implant
from clipzoo.datasets.samples.phantom_film import Film

if TYPE_CHECKING:
    from PIL import Image

CLASS_TEXTS: dict[str, list[str]] = {
    "骨水泥型全髋": [
        "骨水泥型全髋关节置换，细长光滑的股骨柄外有一圈骨水泥",
        "聚乙烯臼杯透光，只见金属标记丝，骨水泥固定",
    ],
    "非骨水泥型全髋": [
        "非骨水泥型全髋关节置换，粗柄直接压配填满髓腔，没有骨水泥",
        "半球形金属臼杯，可见螺钉，标准长度的股骨柄",
    ],
    "双极人工股骨头": [
        "双极人工股骨头置换，巨大的金属球头占满髋臼，没有臼杯",
        "半髋置换，大直径光滑球头配普通股骨柄",
    ],
    "髋关节表面置换": [
        "髋关节表面置换，金属帽罩住股骨头，股骨颈保留，没有股骨柄",
        "股骨头表面帽带一根细短的中心杆",
    ],
    "短柄全髋": [
        "短柄全髋关节置换，弯曲的短柄只到小转子水平",
        "金属臼杯配仅位于干骺端的短股骨柄",
    ],
    "加长柄翻修": [
        "翻修手术的加长股骨柄，越过股骨干中段，并有钢丝环扎",
        "髋关节翻修假体，组配式长柄，股骨外有环扎钢丝",
    ],
}
FINDINGS: dict[str, tuple[str, ...]] = {  # what of each class is drawn, in which classes
    "骨水泥": ("骨水泥型全髋",),
    "金属臼杯": ("非骨水泥型全髋", "髋关节表面置换", "短柄全髋", "加长柄翻修"),
    "股骨柄": ("骨水泥型全髋", "非骨水泥型全髋", "双极人工股骨头", "短柄全髋", "加长柄翻修"),
    "环扎钢丝": ("加长柄翻修",),
}
_SHARES = (0.26, 0.24, 0.18, 0.12, 0.10, 0.10)  # share of patients per class, in the order of CLASS_TEXTS: uneven, as in a hospital
_VIEWS = 4  # per patient, on average


@dataclass(frozen=True)
class Patient:
    """The properties shared by all views of a patient.

    Attributes:
        id: Patient id, such as ``P012``.
        class_name: A key of ``CLASS_TEXTS``.
        num_views: Number of views; at least one.
        seed: Seed of body and implant.
    """

    id: str
    class_name: str
    num_views: int
    seed: int


def make_patients(num_images: int, seed: int) -> list[Patient]:
    """Create patients with ``num_images`` views in total, at least one patient per class, in random order of classes."""
    import numpy as np

    rng = np.random.default_rng([seed % 2**32, 0])
    num_patients = max(len(CLASS_TEXTS), round(num_images / _VIEWS))
    counts = np.ones(len(CLASS_TEXTS), dtype=int)
    while counts.sum() < num_patients:  # the class furthest below its share gets the next patient
        counts[np.argmax(np.array(_SHARES) * num_patients - counts)] += 1
    classes = rng.permutation(np.repeat(list(CLASS_TEXTS), counts))
    views = np.ones(num_patients, dtype=int)
    while views.sum() < num_images:
        open_ones = np.flatnonzero(views < max(6, -(-num_images // num_patients)))
        views[rng.choice(open_ones)] += 1
    return [
        Patient(f"P{i + 1:03d}", str(name), int(n), int(rng.integers(2**31)))
        for i, (name, n) in enumerate(zip(classes, views, strict=True))
    ]


def draw_view(patient: Patient, view: int, seed: int) -> Image.Image:
    """Draw one radiograph of a patient: 16-bit gray, about 256 x 304 pixels, with a range of about 12 bits.

    Args:
        patient: Patient with body and implant.
        view: Number of the view, which changes pose, exposure, noise and collimation.
        seed: Seed of the dataset.
    """
    import numpy as np

    body = np.random.default_rng(patient.seed)
    shot = np.random.default_rng([seed % 2**32, patient.seed, view])
    film = Film(body, shot)
    draw_body(film, body)
    draw_implant(patient.class_name, film, body)
    return film.expose(shot)
