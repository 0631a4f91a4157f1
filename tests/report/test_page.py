"""The page of a report: complete, escaped, in two languages, with real text in its charts, and no number of its own."""

from __future__ import annotations

import re
import string
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image
from report_pages import HOSTILE, page_of

from clipzoo.report.charts import Chart, Series, forest, svg
from clipzoo.report.pictures import Pictures
from clipzoo.report.sections.cases import embedding
from clipzoo.report.sections.comparison import _sentences
from clipzoo.report.sections.training import curves
from clipzoo.report.sentences import BASELINES, SENTENCES
from clipzoo.report.words import Words
from clipzoo.scoring.baselines import DESCRIPTIONS


class Reader(HTMLParser):
    """Tags, ids, and the texts of table cells."""

    def __init__(self, page: str):
        super().__init__()
        self.tags, self.ids, self.cells, self.links = [], [], [], []
        self.inside = False
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.tags.append(tag)
        self.ids += [given["id"]] if "id" in given else []
        self.links += [given[name] for name in ("src", "href", "xlink:href") if name in given]
        if tag == "td":
            self.inside = True
            self.cells.append("")

    def handle_endtag(self, tag):
        self.inside = self.inside and tag != "td"

    def handle_data(self, data):
        if self.inside:
            self.cells[-1] += data


def numbers_in(value: object) -> set[str]:
    """Every number of the content as a page may show it: with three digits, as a share in percent, or as it is."""
    if isinstance(value, dict):
        return set().union(*map(numbers_in, value.values())) if value else set()
    if isinstance(value, list):
        return set().union(*map(numbers_in, value)) if value else set()
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return {f"{value:.3f}", f"{abs(value):.3f}", f"{value:g}", f"{100 * value:.0f}", f"{100 * value:.1f}", str(value)}
    return set(re.findall(r"\d+(?:\.\d+)?", value)) if isinstance(value, str) else set()


@pytest.mark.parametrize("name", ["plain", "both"])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_number_of_a_table_is_in_the_json(contents, name, language):
    content = contents[name]
    known = numbers_in(content) | {"001"}  # p < 0.001
    found = Reader(page_of(content, language))
    shown = [number for cell in found.cells for number in re.findall(r"\d+(?:\.\d+)?", cell)]
    assert len(shown) > 50 or name == "both"
    assert [number for number in shown if number not in known and number != "0.001"] == []


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_page_needs_nothing_else(contents, language):
    page = page_of(contents["plain"], language)
    found = Reader(page)
    assert "script" not in found.tags and "link" not in found.tags
    assert all(link.startswith(("#", "data:")) for link in found.links)
    assert len(found.ids) == len(set(found.ids))
    inside = {link[1:] for link in found.links if link.startswith("#")} | set(re.findall(r"url\(#([^)]+)\)", page))
    assert inside <= set(found.ids)
    assert {"answer", "classes", "decisions"} <= set(found.ids) and found.tags.count("h1") == 1
    assert "://" not in re.sub(r'xmlns(:xlink)?="[^"]+"', "", page)
    assert ("平衡准确率" in page) == (language == "zh") and ("Balanced accuracy" in page) == (language == "en")
    assert page == page_of(contents["plain"], language)  # equal content, equal page


def test_names_stay_text(contents):
    page = page_of(contents["hostile"])
    assert "<script" not in page and "&lt;script&gt;" in page
    assert "\u202e" not in page and "\\u202egnp.exe" in page
    assert "=cmd|&#39; /C calc&#39;!A0" in page and "长" * 300 in page
    assert {case["case_id"] for case in contents["hostile"]["cases"]["mistakes"]} >= set(HOSTILE)


def test_sentences_exist_in_both_languages():
    fields = {
        key: [sorted(filter(None, (f[1] for f in string.Formatter().parse(text)))) for text in pair] for key, pair in SENTENCES.items()
    }
    assert {key for key, (en, zh) in fields.items() if en != zh} == set()
    assert set(BASELINES) == set(DESCRIPTIONS)
    source = "\n".join(path.read_text(encoding="utf-8") for path in Path(SENTENCES_FOLDER).rglob("*.py"))
    source += "\n".join(path.read_text(encoding="utf-8") for path in Path(SENTENCES_FOLDER).glob("*.jinja"))
    named = {key for key in re.findall(r"words\(['\"](\w+)['\"]", source) if not key.endswith("_")}
    assert named and named <= set(SENTENCES)


SENTENCES_FOLDER = Path(__file__).resolve().parents[2] / "clipzoo" / "report"


def test_words_of_verdicts_and_warnings():
    numbers = {"difference": 0.1, "low": 0.02, "high": 0.2, "adjusted_p_value": 0.0004, "detectable": None, "note": ""}
    pair = {"first": "the trained model", "second": "kNN on frozen features", "verdict": "better", "metrics": {"accuracy": numbers}}
    doubted = {**numbers, "note": "only 6 groups"}
    found = {"metric": "accuracy", "greater_is_better": True, "pairs": [pair, {**pair, "metrics": {"accuracy": doubted}}]}
    first, second, note = _sentences(found, Words("zh"))
    assert first == second and (note.text, note.level, note.english) == ("only 6 groups", "note", True)
    assert Words("en").verdict(pair, "accuracy", True, 4) == (
        "The trained model is better than kNN on frozen features in accuracy: +0.100 (+0.020 … +0.200), p < 0.001 (Holm, 4 comparisons)."
    )
    assert Words("zh").verdict(pair, "accuracy", True, 1).startswith("训练的模型的准确率优于冻结特征上的 kNN：+0.100")
    english, chinese = (Words(language).value(0.01, -0.02, 0.03) for language in ("en", "zh"))
    assert (english, chinese) == ("0.010 (-0.020 to 0.030)", "0.010 (-0.020 至 0.030)")
    assert "0.167" in Words("en").warning({"key": "at_chance", "metric": "balanced_accuracy", "chance": 1 / 6})
    assert Words("en").selection("best balanced_accuracy on val; last epoch") == "best balanced accuracy on the val part, the last one"
    optimistic = "best accuracy on test, weights averaged with the starting ones (WiSE-FT), optimistic: the reported cases chose the epoch"
    assert Words("zh").selection(optimistic) == "test 部分本身准确率最好的一轮，其权重与初始权重平均（WiSE-FT）"
    assert Words("zh").percent(0.034) == "3.4 %" and Words("zh").percent(None) == "–" and Words("en").p(0.0312) == "0.031"


def test_charts_are_text_with_the_colours_of_the_page():
    chart = Chart(
        "ROC <1>", [Series("a", [0, 1], [0, None], [0.0, 0.1], [0.2, 0.3])], "假阳性率", "真阳性率", (0, 1), (0, 1), diagonal=True
    )
    drawn = svg(chart)
    assert drawn == svg(chart) and "假阳性率</text>" in drawn and 'aria-label="ROC &lt;1&gt;"' in drawn
    assert not re.findall(r"[: \"]#[0-9a-f]{6}", re.sub(r'href="#\w+"', "", drawn)) and "var(--s0)" in drawn and "currentColor" in drawn
    assert "font-family" not in drawn and "<style" not in drawn
    first, second = (set(re.findall(r'id="(\w+)"', svg(Chart(name, chart.series)))) for name in ("one", "two"))
    assert first and not first & second


def test_a_dollar_is_a_dollar():
    """matplotlib would take what stands between two of them for a formula."""
    names = ["$x^{$", "be$t$a", "$100 or $5"]
    texts = Series("", [0, 1, 2], [0, 1, 2], kind="texts", texts=names)
    drawn = svg(Chart("a", [texts], "$x$", "$y_$", ticks=["$a$", "$b_$", "c"]))
    assert all(f">{name}</text>" in drawn for name in (*names, "$x$", "$y_$", "$a$", "$b_$"))


def test_texts_at_the_edges_begin_or_end_at_their_place():
    texts = Series("", [0, 1, 2, 0, 2], [0, 1, 2, 1, 1], kind="texts", texts=["髋关节表面置换", "双极人工股骨头", "骨水泥型全髋", "L", "R"])
    drawn = svg(Chart("a", [texts], bare=True, size=(3.6, 3.2)))
    anchors = dict(reversed(found) for found in re.findall(r"text-anchor: (\w+)[^>]*>([^<]+)</text>", drawn))
    assert anchors == {"髋关节表面置换": "start", "双极人工股骨头": "middle", "骨水泥型全髋": "end", "L": "middle", "R": "middle"}


def test_learning_curves_of_rare_evaluations_are_joined():
    folds = {"fold_1": {"epochs": [1, 2, 3, 4], "loss": [3.0, 2.0, 1.5, 1.0], "metric": [None, 0.25, None, 0.5]}}
    content = {"training": {"metric": "accuracy", "on": "val", "folds": folds, "scored_epoch": {"fold_1": 4}}}
    loss, metric = curves(content, Words("en")).blocks[1].figures
    assert [
        len(re.findall(r'd="M [^"]*" clip-path="[^"]*" style="fill: none; stroke: var\(--s0\); stroke-width: 1.5', figure.svg))
        for figure in (loss, metric)
    ] == [1, 1]


def test_a_forest_shares_one_scale():
    rows = forest([(0.5, 0.25, 0.75), (0.0, None, None), (None, None, None)], 1.0)
    assert 'x1="53.0" x2="147.0"' in rows[0] and 'cx="100.0"' in rows[0] and 'x1="194.0"' in rows[0]  # 6 to 194 are 0 to 1
    assert "interval" not in rows[1] and rows[2] == "" and forest([(None, None, None)], None) == [""]


def test_images_without_a_single_class_are_drawn():
    panel = {"labels": [-1, -1, 0], "classes": ["a", "b"], "x": [0.0, 1.0, 2.0], "y": [0.0, 1.0, 0.5]}
    panel |= {"captions": ["a"], "caption_x": [0.5], "caption_y": [0.5]}
    section = embedding({"embedding": {"method": "pca", "folds": {"fold_1": panel}}}, Words("en"))
    _, captions, figures = section.blocks
    (figure,) = figures.figures
    assert captions.text.startswith("Diamonds") and [label for label, _ in figure.legend] == ["images", "a"]
    points = re.findall(r"<use [^>]*>", figure.svg)
    assert len(points) == 4  # two without a class, one with, one caption
    panel |= {"captions": [], "caption_x": [], "caption_y": []}
    section = embedding({"embedding": {"method": "pca", "folds": {"fold_1": panel}}}, Words("en"))
    assert len(section.blocks) == 2, "no captions, nothing about diamonds"


def test_an_explanation_belongs_to_what_it_explains():
    class Data:
        rows, cases = {"a": 0}, ()
        single_images = SimpleNamespace(read_image=lambda row: Image.new("RGB", (8, 8)))

        def image_rows(self, row: int) -> list[int]:
            return [row]

    pictures = Pictures(Data(), overlays={("a", "x"): Image.new("RGB", (8, 8), "red")})
    assert pictures.explains and len(pictures.of("a", "x")) == 2 and len(pictures.of("a", "y")) == 1 == len(pictures.of("a"))
    assert pictures.of("a", "x")[1].caption == "x" and Pictures(None).of("a", "x") == []
