"""The shapes of the phantom radiographs: thigh, pelvis, femur, and six kinds of prosthesis. Millimetres, see ``phantom_film``."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from clipzoo.datasets.samples.phantom_film import Film, Point

if TYPE_CHECKING:
    import numpy as np

METAL = 2.6  # attenuation: white on the film
CEMENT = 0.75  # a little denser than bone
NECK: Point = (0.766, 0.643)  # from the head down the neck, at 130 degrees to the shaft


# ---- shapes ----


def disc(centre: Point, radius: float, start: float = 0.0, stop: float = 2 * math.pi) -> list[Point]:
    """A disc, or its sector between two angles in radians, measured from +x towards +y."""
    steps = 48
    angles = [start + (stop - start) * i / steps for i in range(steps + 1)]
    return [(centre[0] + radius * math.cos(a), centre[1] + radius * math.sin(a)) for a in angles]


def bar(a: Point, b: Point, width_a: float, width_b: float | None = None) -> list[Point]:
    """A tapered bar with round ends from ``a`` to ``b``."""
    width_b = width_a if width_b is None else width_b
    angle = math.atan2(b[1] - a[1], b[0] - a[0])
    half = math.pi / 2
    return disc(a, width_a / 2, angle + half, angle + 3 * half) + disc(b, width_b / 2, angle - half, angle + half)


def smooth(points: list[Point], steps: int = 6) -> list[Point]:
    """A closed curve through ``points`` (Catmull-Rom)."""
    curve = []
    for i in range(len(points)):
        p0, p1, p2, p3 = (points[(i + k) % len(points)] for k in (-1, 0, 1, 2))
        for step in range(steps):
            t = step / steps
            curve.append(tuple(_spline(t, p0[k], p1[k], p2[k], p3[k]) for k in (0, 1)))
    return curve


def _spline(t: float, a: float, b: float, c: float, d: float) -> float:
    return 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)


def along(start: Point, direction: Point, distance: float) -> Point:
    """The point at ``distance`` from ``start``."""
    return start[0] + direction[0] * distance, start[1] + direction[1] * distance


def shaft(y: float) -> float:
    """x of the axis of the femur at height ``y``; it leans towards the knee."""
    return 46 - 0.06 * (y - 40)


# ---- body ----


def draw_body(film: Film, body: np.random.Generator) -> None:
    """Soft tissue and pelvis; the femur is drawn with the implant, which cuts it."""
    fat = body.uniform(0.75, 1.3)
    skin = [(95, -150), (98, -70), (104, 10), (98, 90), (86, 240), (-52, 240), (-64, 110), (-76, 88), (-96, 84), (-170, 92), (-170, -150)]
    film.add(0.16 * fat, smooth(skin), soft=6)
    muscle = [(70, -150), (80, -40), (82, 30), (76, 110), (66, 240), (-34, 240), (-46, 110), (-64, 78), (-170, 80), (-170, -150)]
    film.add(0.14, smooth(muscle), soft=9)
    wing = [(33, -12), (34, -38), (46, -62), (60, -98), (46, -150), (-40, -160), (-78, -110), (-66, -72), (-44, -42), (-36, -14), (-34, 12)]
    wing += [(-27, 30), (-16, 26), (14, -2)]
    film.add_bone(smooth(wing), spongy=0.36, cortex=0.44)
    film.add(0.16, bar((-40, -46), (-56, -118), 30, 46), soft=9)  # the sacroiliac region is denser
    rami = [bar((-26, 14), (-96, 30), 19, 15), bar((-96, 34), (-92, 62), 19), bar((-92, 66), (-48, 88), 13, 17)]
    ischium = [(-34, 8), (-14, 22), (-18, 44), (-24, 74), (-38, 94), (-54, 92), (-52, 78), (-42, 62), (-38, 40)]
    film.add_bone(*rami, smooth(ischium), spongy=0.32, cortex=0.42, wall=2.4)
    socket = film.mask(disc((0, 0), 27.5), soft=1)
    film.multiply(0.72, socket)  # the joint has less bone than its surroundings
    film.add(0.22, _arc((0, 0), 27, 31, math.radians(195), math.radians(335)), soft=1.2)  # the sclerotic roof


def _arc(centre: Point, inner: float, outer: float, start: float, stop: float) -> list[Point]:
    return disc(centre, outer, start, stop) + disc(centre, inner, start, stop)[::-1]


def _femur(film: Film, body: np.random.Generator, *, neck: bool) -> None:
    """The femur: whole with its head, or cut at the neck."""
    wide = body.uniform(0.94, 1.08)
    calcar, lateral = ((19, 34), (40, -4)) if neck else ((22, 40), (44, 6))
    outline = [lateral, (52, -15), (62, -12), (69, 6), (70, 28), (shaft(58) + 19 * wide, 58), (shaft(95) + 15 * wide, 95)]
    outline += [(shaft(150) + 14 * wide, 150), (shaft(250) + 14 * wide, 250), (shaft(250) - 14 * wide, 250), (shaft(150) - 14 * wide, 150)]
    outline += [(shaft(100) - 15 * wide, 100), (shaft(80) - 16 * wide, 80), (24, 68), (24, 58), calcar]
    parts = [smooth(outline)]
    if neck:
        parts += [disc((0, 0), 23.5), bar((4, 3), along((0, 0), NECK, 48), 31, 42)]
    film.add_bone(*parts, spongy=0.34, cortex=0.72, wall=3.4)
    inner = [(shaft(250) - 6, 250), (shaft(110) - 6.5, 110), (shaft(66) - 7, 66)]
    outer = [(shaft(66) + 9, 66), (shaft(110) + 6.5, 110), (shaft(250) + 6, 250)]
    film.multiply(0.70, film.mask(smooth(inner + outer), soft=1.6))  # the marrow canal


# ---- implants ----


def draw_implant(class_name: str, film: Film, body: np.random.Generator) -> None:
    """Draw the femur and the prosthesis of a class of ``phantoms.CLASS_TEXTS``."""
    _IMPLANTS[class_name](film, body)


def _cemented(film: Film, body: np.random.Generator) -> None:
    _femur(film, body, neck=False)
    tip, varus = body.uniform(112, 132), body.normal(0, 1.5)
    medial, lateral = _stem_edges(tip, top_width=15, tip_width=6.5, varus=varus)
    mantle = [(x - 4.5, y) for x, y in medial] + [(shaft(tip + 16) - 5, tip + 16), (shaft(tip + 16) + 5, tip + 16)]
    mantle += [(x + 4.5, y) for x, y in lateral]
    film.add(CEMENT, smooth(mantle), soft=1.0)
    film.add(METAL, medial + lateral, _neck_bar(body), soft=0.5)
    angle = _opening(body)
    cup = disc((0, 0), body.uniform(23, 25), angle + math.pi / 2, angle + 3 * math.pi / 2)
    film.add(CEMENT, disc((-1, -1), 30, angle + math.pi / 2, angle + 3 * math.pi / 2), soft=1.5)
    film.multiply(0.42, film.mask(cup, soft=0.8))  # polyethylene is radiolucent
    wire = _arc((0, 0), 22.2, 23.6, angle + math.pi / 2, angle + 3 * math.pi / 2)
    film.add(1.6, wire, bar(along((0, 0), _unit(angle + math.pi / 2), 23), along((0, 0), _unit(angle - math.pi / 2), 23), 1.3), soft=0.4)
    film.add(METAL, disc((0, 0), body.uniform(11, 14)), soft=0.5)


def _uncemented(film: Film, body: np.random.Generator) -> None:
    _femur(film, body, neck=False)
    tip = body.uniform(128, 150)
    medial, lateral = _stem_edges(tip, top_width=25, tip_width=12.5, varus=body.normal(0, 1.2))
    film.add(METAL, medial + lateral, _neck_bar(body), soft=0.5)
    _metal_cup(film, body, screws=int(body.integers(1, 4)))
    film.add(METAL, disc((0, 0), body.uniform(14, 18)), soft=0.5)


def _bipolar(film: Film, body: np.random.Generator) -> None:
    _femur(film, body, neck=False)
    medial, lateral = _stem_edges(body.uniform(116, 140), top_width=21, tip_width=10.5, varus=body.normal(0, 1.5))
    film.add(METAL, medial + lateral, _neck_bar(body), soft=0.5)
    angle, radius = _opening(body), body.uniform(24, 26.5)
    film.add(METAL, disc((0, 0), radius, angle + 1.15, angle + 2 * math.pi - 1.15), soft=0.5)  # a sphere, cut open at the neck


def _resurfacing(film: Film, body: np.random.Generator) -> None:
    _femur(film, body, neck=True)
    _metal_cup(film, body, screws=0, radius=body.uniform(28, 30))
    axis = math.atan2(NECK[1], NECK[0]) + body.normal(0, 0.06)
    film.add(METAL, disc((0, 0), body.uniform(22, 24), axis + 1.25, axis + 2 * math.pi - 1.25), soft=0.5)
    film.add(1.8, bar(along((0, 0), _unit(axis), 4), along((0, 0), _unit(axis), body.uniform(42, 52)), 5, 2.5), soft=0.4)


def _short_stem(film: Film, body: np.random.Generator) -> None:
    _femur(film, body, neck=False)
    tip = body.uniform(70, 86)
    bent = [(26, 16), (22, 30), (25, 44), (32, 62), (shaft(tip) - 3, tip), (shaft(tip) + 2, tip + 2), (shaft(tip) + 5, tip - 4)]
    bent += [(48, 54), (46, 34), (40, 16)]
    film.add(METAL, smooth(bent), _neck_bar(body, reach=34), soft=0.5)
    _metal_cup(film, body, screws=int(body.integers(0, 2)))
    film.add(METAL, disc((0, 0), body.uniform(15, 18)), soft=0.5)


def _revision(film: Film, body: np.random.Generator) -> None:
    _femur(film, body, neck=False)
    tip = body.uniform(188, 225)
    medial, lateral = _stem_edges(tip, top_width=27, tip_width=11, varus=body.normal(0, 0.8), fluted=True)
    film.add(METAL, medial + lateral, _neck_bar(body), soft=0.5)
    film.multiply(0.62, film.mask(bar((shaft(62) - 13, 62), (shaft(62) + 13, 62), 1.6), soft=0.4))  # where the modules join
    for y in body.uniform(70, 150, size=int(body.integers(2, 5))):
        lean = body.normal(0, 3)
        film.add(1.3, bar((shaft(y) - 17, y - lean), (shaft(y) + 17, y + lean), 1.7), soft=0.3)
        film.add(1.0, disc((shaft(y) + 18, y + lean), 2.2), soft=0.4)  # the knot
    _metal_cup(film, body, screws=int(body.integers(2, 5)), radius=body.uniform(28, 31))
    film.add(METAL, disc((0, 0), body.uniform(14, 18)), soft=0.5)


_IMPLANTS: dict[str, Callable[[Film, np.random.Generator], None]] = {
    "骨水泥型全髋": _cemented,
    "非骨水泥型全髋": _uncemented,
    "双极人工股骨头": _bipolar,
    "髋关节表面置换": _resurfacing,
    "短柄全髋": _short_stem,
    "加长柄翻修": _revision,
}


def _unit(angle: float) -> Point:
    return math.cos(angle), math.sin(angle)


def _opening(body: np.random.Generator) -> float:
    """The direction in which a cup opens: down and outwards, with an inclination between 35 and 55 degrees."""
    return math.pi / 2 - math.radians(body.uniform(35, 55))


def _neck_bar(body: np.random.Generator, reach: float = 46) -> list[Point]:
    return bar(along((0, 0), NECK, 6), along((0, 0), NECK, reach), body.uniform(11, 13), 16)


def _stem_edges(tip: float, *, top_width: float, tip_width: float, varus: float, fluted: bool = False) -> tuple[list[Point], list[Point]]:
    """The inner edge of a straight stem from the neck down, and its outer edge from the tip up; ``varus`` in degrees."""
    slope = math.tan(math.radians(varus))
    middle = min(82.0, tip - 20)

    def x(y: float) -> float:
        return shaft(y) - slope * (y - 60)

    narrow = tip_width * (1.25 if fluted else 1.1)
    medial = [(27, 24), (x(40) - top_width * 0.62, 42), (x(middle) - narrow * 0.62, middle)]
    point = disc((x(tip), tip - tip_width * 0.36), tip_width * 0.36, math.pi, 0)[::4]  # round, from the inner to the outer edge
    lateral = [(x(middle) + narrow * 0.55, middle), (x(40) + top_width * 0.40, 42), (45, 14)]
    return medial + point[:7], point[7:] + lateral


def _metal_cup(film: Film, body: np.random.Generator, *, screws: int, radius: float | None = None) -> None:
    """A press-fit half sphere of metal, with screws into the roof."""
    angle = _opening(body)
    radius = body.uniform(26, 29) if radius is None else radius
    start, stop = angle + math.pi / 2, angle + 3 * math.pi / 2
    film.add(0.9, disc((0, 0), radius, start, stop), soft=0.5)
    film.add(METAL, _arc((0, 0), radius - 4.2, radius, start, stop), soft=0.5)
    for _ in range(screws):
        way = _unit(math.radians(body.uniform(215, 275)))
        film.add(1.7, bar(along((0, 0), way, radius - 2), along((0, 0), way, radius + body.uniform(18, 36)), 4.2, 2.6), soft=0.4)
