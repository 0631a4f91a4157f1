"""A report as one page of HTML that needs no other file and runs no script."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clipzoo.doctor.check import Report
from clipzoo.doctor.findings import Shown
from clipzoo.doctor.report import MOST_CASES, counts, header
from clipzoo.errors import ClipzooError
from clipzoo.pictures.data_uri import exact_uri, thumbnail_uri
from clipzoo.text import visible

if TYPE_CHECKING:
    pass

MOST_PICTURES = 200
PIXELS = 160  # longer side of a picture
_OF_FINDING = {"error": 24, "warning": 24, "note": 8}  # cases of one finding
_MOST_BORDERS = 12

_PAGE = """<!DOCTYPE html>
<html lang="{{ language }}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{{ title }}</title>
<style>
:root { color-scheme: light dark; --line: #ccc; --soft: #f3f3f3; --error: #b00020; --warning: #8a5300; --note: #2a5d8f;
  background: #fff; color: #111; }
@media (prefers-color-scheme: dark) { :root { --line: #555; --soft: #2a2a2a; --error: #ff8a80; --warning: #ffc46b; --note: #9cc9f5;
  background: #151515; color: #eee; } }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; overflow-wrap: anywhere; }
table { border-collapse: collapse; } td, th { border-bottom: 1px solid var(--line); padding: .2rem .5rem .2rem 0; text-align: right; }
td:first-child, th:first-child, .facts td { text-align: left; }
.facts td:first-child, td + td, th { white-space: nowrap; } .facts td + td { white-space: normal; }
section { border-left: .3rem solid; margin: 1.5rem 0; padding-left: 1rem; } h2 { font-size: 1.05rem; margin: 0; }
.error { border-color: var(--error); } .warning { border-color: var(--warning); } .note { border-color: var(--note); }
.level { font-weight: 700; } .error .level { color: var(--error); } .warning .level { color: var(--warning); }
.note .level { color: var(--note); }
.cases { display: flex; flex-wrap: wrap; gap: 1rem; margin-top: .6rem; }
.case { background: var(--soft); padding: .5rem; max-width: 24rem; }
figure { display: inline-block; margin: 0 .4rem 0 0; max-width: 11rem; vertical-align: top; } img { max-width: 100%; }
figcaption, .detail { font-size: .8rem; } .border { image-rendering: pixelated; width: 128px; }
</style>
</head>
<body>
<main>
<h1>{{ title }}</h1>
<p>{{ counts }}</p>
<table class="facts">
{% for label, value in lines %}<tr><td>{{ label }}</td><td>{{ value }}</td></tr>
{% endfor %}</table>
{% if table %}<table>
<tr>{% for name in header %}<th>{{ name }}</th>{% endfor %}</tr>
{% for row in table %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</table>
{% endif %}
{% for finding in findings %}<section class="{{ finding.level }}">
<h2><span class="level">{{ finding.word }}</span> {{ finding.what }} <small>[{{ finding.check }}]</small></h2>
{% if finding.cases %}<div class="cases">
{% for case in finding.cases %}<div class="case">
{% for name, picture in case.images %}<figure>{% if picture %}<img src="{{ picture }}" alt="{{ name }}">{% endif %}\
<figcaption>{{ name }}</figcaption></figure>{% endfor %}
<div class="detail">{{ case.detail }}</div></div>
{% endfor %}</div>{% endif %}
{% if finding.more %}<p>{{ finding.more }}</p>{% endif %}
</section>
{% endfor %}
{% if borders %}<h2>{{ borders_title }}</h2>
<div class="cases">{% for name, picture in borders %}<figure><img class="border" src="{{ picture }}" alt="{{ name }}">\
<figcaption>{{ name }}</figcaption></figure>{% endfor %}</div>{% endif %}
<p><small>{{ budget }}</small></p>
</main>
</body>
</html>
"""


def page(report: Report) -> str:
    """The page. Names are escaped, also characters that would change the direction or the look of the text around them."""
    from jinja2 import Environment
    from PIL import Image

    words = report.words
    pictures = _Pictures(report)
    findings = [
        {
            "level": finding.level,
            "word": words(finding.level),
            "check": finding.check,
            "what": finding.what,
            "cases": [_case(report, case, pictures) for case in finding.cases[:most]],
            "more": words("more", n=len(finding.cases) - most, file="data_report.json") if len(finding.cases) > most else "",
        }
        for finding, most in ((finding, _OF_FINDING[finding.level]) for finding in report.findings)
    ]
    content = {
        "language": "zh-CN" if words.language == "zh" else "en",
        "title": words("title", name=report.name),
        "counts": counts(report),
        "lines": report.lines,
        "header": header(report),
        "table": report.table,
        "findings": findings,
        "borders_title": words("borders"),
        "borders": [(name, exact_uri(Image.fromarray(picture))) for name, picture in report.borders[:_MOST_BORDERS]],
        "budget": words("budget", pictures=MOST_PICTURES, pixels=PIXELS, most=MOST_CASES),
    }
    environment = Environment(autoescape=True, finalize=lambda value: visible(value) if isinstance(value, str) else value)
    return environment.from_string(_PAGE).render(content)


def _case(report: Report, case: Shown, pictures: _Pictures) -> dict:
    return {"images": [(report.facts[row].id, pictures.of(row)) for row in case.rows], "detail": case.detail}


class _Pictures:
    """Small pictures as data URIs, up to the budget; each image is read once more."""

    def __init__(self, report: Report):
        self._data, self._facts = report.data, report.facts
        self._made: dict[int, str] = {}

    def of(self, row: int) -> str:
        """The picture of an image; empty if it cannot be decoded, or beyond the budget."""
        if row in self._made:
            return self._made[row]
        if self._facts[row].error or len(self._made) >= MOST_PICTURES:
            return ""
        try:
            image = self._data.read_image(row)
        except ClipzooError:  # changed since it was checked
            return ""
        self._made[row] = thumbnail_uri(image, PIXELS)
        return self._made[row]
