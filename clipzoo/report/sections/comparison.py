"""Comparisons: forest plots of values and of paired differences, and a sentence for each pair."""

from __future__ import annotations

from typing import Any

from clipzoo.report.blocks import Block, Card, Cards, Cell, Paragraph, Section, Table
from clipzoo.report.charts import forest
from clipzoo.report.pictures import Pictures
from clipzoo.report.sections.cases import where
from clipzoo.report.words import Words

_MOST_SENTENCES = 10


def section(content: dict[str, Any], words: Words) -> Section | None:
    """A trained model beside its baselines; ``None`` without any."""
    found = content["comparison"]
    if found is None:
        return None
    if found.get("problem"):
        return Section("comparison", words("comparison"), [Paragraph(found["problem"], "note")])
    intro = words("baselines_intro", tower=found["tower"])
    return Section("comparison", words("comparison"), [Paragraph(intro), *tables(found, words)])


def tables(found: dict[str, Any], words: Words) -> list[Block]:
    """Values of the runs, paired differences of the deciding metric, and their meaning."""
    return [_values(found, words), _pairs(found, words), *_sentences(found, words), Paragraph(words("differences_mean"), "note")]


def _values(found: dict[str, Any], words: Words) -> Table:
    metric = found["metric"]
    pictures = forest([tuple(run["values"][metric]) for run in found["runs"]], None)
    others = [name for name in found["runs"][0]["values"] if name != metric]
    rows = [
        [
            words.run(run["name"]) + (f" ({words('optimistic_mark')})" if run["optimistic"] else ""),
            Cell(words.value(*run["values"][metric]), strong=run["name"] == found["best"]),
            Cell(svg=picture),
            *(words.value(*run["values"][name]) for name in others),
        ]
        for run, picture in zip(found["runs"], pictures, strict=True)
    ]
    return Table(words("values_caption"), [words("run"), words.metric(metric), "", *map(words.metric, others)], rows)


def _pairs(found: dict[str, Any], words: Words) -> Table:
    shown = [(pair, pair["metrics"].get(found["metric"])) for pair in found["pairs"]]
    shown = [(pair, numbers) for pair, numbers in shown if numbers is not None]
    pictures = forest([(n["difference"], n["low"], n["high"]) for _, n in shown], 0.0)
    rows = [
        [
            f"{words.run(pair['first'])} − {words.run(pair['second'])}",
            words.difference(numbers["difference"], numbers["low"], numbers["high"]),
            Cell(svg=picture),
            words.p(numbers["p_value"]),
            words.p(numbers["adjusted_p_value"]),
            words.number(numbers["detectable"]),
            words(f"verdict_{pair['verdict'].replace(' ', '_')}"),
        ]
        for (pair, numbers), picture in zip(shown, pictures, strict=True)
    ]
    level = f"{100 * found['level']:g}"
    header = [words("pair"), words("difference_with", level=level), "", "p", words("p_holm"), words("detectable"), words("verdict")]
    return Table(words("pairs_caption", metric=words.metric(found["metric"], inside=True)), header, rows)


def _sentences(found: dict[str, Any], words: Words) -> list[Block]:
    """A sentence of every pair, and then why their numbers may be doubted."""
    pairs = found["pairs"][:_MOST_SENTENCES]
    sentences = [Paragraph(words.verdict(pair, found["metric"], found["greater_is_better"], len(found["pairs"]))) for pair in pairs]
    notes = dict.fromkeys(numbers["note"] for pair in pairs if (numbers := pair["metrics"].get(found["metric"])) and numbers["note"])
    return [*sentences, *(Paragraph(note, "note", english=True) for note in notes)]


def leaderboard(content: dict[str, Any], words: Words) -> Section:
    """Runs ordered by the deciding metric, their doubts, and every pair."""
    found = content["comparison"]
    metric = found["metric"]
    blocks: list[Block] = []
    doubted: dict[str, list[str]] = {}
    for row in content["leaderboard"]:
        for warning in row["warnings"]:
            doubted.setdefault(words.warning(warning), []).append(row["name"])
    for warning, names in doubted.items():
        whose = "" if len(names) == len(content["leaderboard"]) else f"{words.listed(names)}: "
        blocks.append(Paragraph(whose + warning, "warning"))
    groups = words("of_groups", groups=found["num_groups"]) if found["num_groups"] < found["num_cases"] else ""
    blocks.append(Paragraph(words("several_runs", runs=len(found["runs"]), cases=found["num_cases"], groups=groups)))
    selections = [words.selection(row["selection"]) for row in content["leaderboard"]]
    differ = len(set(selections)) > 1
    if not differ:
        blocks.append(Paragraph(words("epoch_of_all", selection=selections[0])))
    pictures = forest([tuple(row["values"][metric]) for row in content["leaderboard"]], None)
    others = [name for name in found["runs"][0]["values"] if name != metric]
    rows = [
        [
            row["name"],
            Cell(words.value(*row["values"][metric]), strong=place == 0),
            Cell(svg=picture),
            *(words.value(*row["values"][name]) for name in others),
            *([Cell(selection, wraps=True)] if differ else []),
        ]
        for place, (row, picture, selection) in enumerate(zip(content["leaderboard"], pictures, selections, strict=True))
    ]
    header = [words("run"), words.metric(metric), "", *map(words.metric, others), *([words("epoch_choice")] if differ else [])]
    blocks.append(Table(words("leaderboard_caption", metric=words.metric(metric, inside=True)), header, rows))
    return Section("leaderboard", words("leaderboard"), [*blocks, Paragraph(words("many_runs"), "note")])


def pairs(content: dict[str, Any], words: Words) -> Section:
    """Paired differences of several runs."""
    found = content["comparison"]
    return Section(
        "comparison", words("differences"), [_pairs(found, words), *_sentences(found, words), Paragraph(words("differences_mean"), "note")]
    )


def disagreements(content: dict[str, Any], words: Words, pictures: Pictures) -> Section | None:
    """Cases on which the runs disagree, with pictures; ``None`` for retrieval."""
    found = content["disagreements"]
    if not found:
        return None
    rows = [
        [words("all_right"), str(found["all_right"])],
        [words("all_wrong"), str(found["all_wrong"])],
        [words("differ"), str(found["differ"])],
        *([words("only_right", run=name), str(count)] for name, count in found["only"].items()),
    ]
    cards = [
        Card(
            case["case_id"],
            pictures.of(case["case_id"]),
            [*where(case, words), words("truth", label=case["label"])]
            + [
                words("run_says", run=row["run"], prediction=row["prediction"], p=words.number(row["p"]), mark="✓" if row["right"] else "✗")
                for row in case["predictions"]
            ],
        )
        for case in found["shown"]
    ]
    table = Table(words("agreement_caption", cases=found["cases"]), [words("cases_on_which"), words("number")], rows)
    return Section(
        "disagreements",
        words("disagreements"),
        [table, Cards(words("disagree_title"), words("disagree_intro"), cards)] if cards else [table],
    )
