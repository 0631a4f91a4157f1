"""A report as one page of HTML that needs no other file, no network and no script; a function of its content and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clipzoo import __version__
from clipzoo.report.blocks import Block, Section
from clipzoo.report.pictures import Pictures
from clipzoo.report.sections import answer, cases, classes, comparison, decisions, few_shot, retrieval, training
from clipzoo.report.words import Words
from clipzoo.text import visible

JSON_FILE, PAGE_FILE = "report.json", "report.html"


def run_page(content: dict[str, Any], words: Words, pictures: Pictures) -> str:
    """The page of one run. Names are escaped, also characters that change the direction or the look of the text around them."""
    sections = [
        answer.section(content, words),
        comparison.section(content, words),
        classes.section(content, words),
        retrieval.section(content, words),
        decisions.section(content, words),
        training.curves(content, words),
        training.data(content, words),
        cases.section(content, words, pictures),
        cases.embedding(content, words),
        training.reproducibility(content, words),
    ]
    return _render(words("title", name=content["name"]), answer.headline(content, words), sections, words)


def comparison_page(content: dict[str, Any], words: Words, pictures: Pictures) -> str:
    """The page of several runs."""
    sections = [
        comparison.leaderboard(content, words),
        comparison.pairs(content, words),
        comparison.disagreements(content, words, pictures),
    ]
    return _render(words("title_comparison", name=content["name"]), {}, sections, words)


def few_shot_page(content: dict[str, Any], words: Words) -> str:
    """The page of few-shot episodes."""
    sections: list[Section | None] = [few_shot.answer(content, words), few_shot.reproducibility(content, words)]
    return _render(words("title", name=content["name"]), {}, sections, words)


def _render(title: str, headline: dict[str, str], sections: list[Section | None], words: Words) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    def shown(value: object) -> object:
        return visible(value, keep="\n") if isinstance(value, str) and not isinstance(value, Markup) else value

    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(autoescape=True, loader=loader, finalize=shown, undefined=StrictUndefined, trim_blocks=True)
    block = environment.get_template("block.html.jinja")

    def draw(one: Block) -> Markup:
        return Markup(block.render(block=one).strip())

    return environment.get_template("page.html.jinja").render(
        title=title,
        headline=headline,
        sections=[section for section in sections if section is not None and section.blocks],
        words=words,
        draw=draw,
        file=JSON_FILE,
        version=__version__,
    )
