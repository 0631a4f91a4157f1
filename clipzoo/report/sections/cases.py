"""Cases with their pictures: mistakes, certain ones, suspicious labels, searches, and where features lie."""

from __future__ import annotations

from typing import Any

from clipzoo.pictures.figures import shortened_name
from clipzoo.report.blocks import Block, Card, Cards, Figure, Figures, Paragraph, Section
from clipzoo.report.charts import NUM_COLOURS, Chart, Series, svg
from clipzoo.report.pictures import Pictures
from clipzoo.report.words import Words

_METHODS = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}


def section(content: dict[str, Any], words: Words, pictures: Pictures) -> Section | None:
    """Every kind of case that has any."""
    blocks: list[Block] = []
    for kind, cases in content["cases"].items():
        if cases:
            card = _search if content["kind"] == "retrieval" else _finding if content["kind"] == "findings" else _case
            cards = [card(case, words, pictures) for case in cases]
            blocks.append(Cards(words(f"{kind}_title"), words(f"{kind}_intro"), cards))
    if not blocks:
        return None
    notes = [Paragraph(note, "note") for note in pictures.notes(words)]
    notes += [Paragraph(note, "note", english=True) for note in content.get("model_notes", ())]
    if pictures.explains:
        notes.append(Paragraph(words("overlays")))
    return Section("cases", words("cases_title"), [*notes, *blocks])


def _case(case: dict[str, Any], words: Words, pictures: Pictures) -> Card:
    lines = [words("truth", label=case["label"]), words("said", prediction=case["prediction"])]
    if "suggested" in case:
        lines = [words("truth", label=case["label"]), words("suggested", label=case["suggested"])]
    return Card(case["case_id"], pictures.of(case["case_id"], case["prediction"]), [*where(case, words), *lines], _bars(case))


def _finding(case: dict[str, Any], words: Words, pictures: Pictures) -> Card:
    kind = "missed_finding" if case["present"] else "false_finding"
    lines = [words(kind, finding=case["prediction"]), words("findings_of", listed=case["label"] or words("none"))]
    return Card(case["case_id"], pictures.of(case["case_id"], case["prediction"]), [*where(case, words), *lines], _bars(case))


def _search(case: dict[str, Any], words: Words, pictures: Pictures) -> Card:
    lines = [
        *where(case, words),
        words("rank_is", rank=f"{case['rank']:g}", gallery=case["gallery"]),
        words("found_caption", caption=case["found"]),
        *(words("right_caption", caption=caption) for caption in case["right"]),
    ]
    return Card(case["case_id"], pictures.of(case["case_id"], case["found"]), lines)


def where(case: dict[str, Any], words: Words) -> list[str]:
    """The fold of a case, its group, and how many more cases of the group there are."""
    group = f", {words('group')} {case['group']}" if case["group"] not in ("", case["case_id"]) else ""
    more = f" ({words('others', number=case['others'])})" if case.get("others") else ""
    return [f"{case['fold']}{group}{more}"]


def _bars(case: dict[str, Any]) -> list[tuple[str, float]]:
    return [(row["class"], row["p"]) for row in case["probabilities"]]


def embedding(content: dict[str, Any], words: Words) -> Section | None:
    """Features of the test parts, one picture per fold; ``None`` if they were not computed."""
    found = content.get("embedding")
    if not found or not found["folds"]:
        return None
    figures = []
    for fold, panel in found["folds"].items():
        series = []
        for c, name in [(-1, words("images")), *enumerate(panel["classes"])]:
            rows = [i for i, label in enumerate(panel["labels"]) if label == c]
            if not rows:  # -1: no class, or several
                continue
            series.append(Series(name, [panel["x"][i] for i in rows], [panel["y"][i] for i in rows], colour=max(c, 0), kind="points"))
        # with more classes than colours the names at the captions must do
        legend = [(one.label, one.colour) for one in series] if len(series) <= NUM_COLOURS else []
        names = [shortened_name(name, 12) for name in panel["captions"]]
        captions = Series("", panel["caption_x"], panel["caption_y"], kind="texts", texts=names)
        chart = Chart(words("embedding_of", fold=fold), [*series, captions], bare=True, size=(3.6, 3.2))
        figures.append(Figure(svg(chart), fold, legend))
    intro = [Paragraph(words("embedding_intro", method=_METHODS[found["method"]]))]
    if any(panel["captions"] for panel in found["folds"].values()):
        intro.append(Paragraph(words("embedding_captions")))
    return Section("embedding", words("embedding_title"), [*intro, Figures(figures)])
