"""Words of a report in one language: names of metrics, numbers with intervals, warnings and verdicts."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from clipzoo.report.sentences import BASELINES, SENTENCES
from clipzoo.scoring.baselines import DESCRIPTIONS, TRAINED
from clipzoo.scoring.paper import value_text
from clipzoo.scoring.paper_words import METRICS

Language = Literal["en", "zh"]


class Words:
    """The words of one language.

    >>> words = Words('en')
    >>> words.value(0.8126, 0.7531, 0.86), words.metric('balanced_accuracy')
    ('0.813 (0.753–0.860)', 'Balanced accuracy')
    """

    def __init__(self, language: Language = "en"):
        self.language = language
        self._column = int(language == "zh")

    def __call__(self, key: str, **values: object) -> str:
        """The sentence of ``key``, filled in; a key without one is its own word, as names of columns from plugins are."""
        found = SENTENCES.get(key)
        return key.replace("_", " ") if found is None else found[self._column].format(**values)

    def joined(self, sentences: Iterable[str]) -> str:
        """Sentences one after the other."""
        return ("" if self._column else " ").join(sentence for sentence in sentences if sentence)

    def listed(self, items: Iterable[str]) -> str:
        """Items in a row."""
        return ("、" if self._column else ", ").join(items)

    def metric(self, name: str, *, inside: bool = False) -> str:
        """A metric by its usual name; ``inside`` a sentence, in English with a small letter."""
        found = METRICS.get(name)
        if found is not None:
            return found[2 if self._column else int(inside)]
        if f"metric_{name}" not in SENTENCES:
            return name.replace("_", " ")
        shown = self(f"metric_{name}")
        return shown[:1].lower() + shown[1:] if inside else shown

    def run(self, name: str) -> str:
        """A run; the names of baselines are sentences of clipzoo."""
        if not self._column:
            return name
        return "训练的模型" if name == TRAINED else _CHINESE_BASELINES.get(name, name)

    def selection(self, how: str) -> str:
        """How the scored epoch was chosen."""
        return self.listed(self._selection(part) for part in how.split("; "))

    def _selection(self, how: str) -> str:
        if how == "last epoch":
            return self("last_epoch")
        inner = re.fullmatch(r"best (\w+) over (\d+) inner folds", how)
        if inner:
            return self("inner_folds", metric=self.metric(inner[1], inside=True), number=inner[2])
        best = re.fullmatch(r"best (\w+) on (val|test)(, weights averaged [^,]*)?(, optimistic.*)?", how)
        if not best:
            return how
        return self(f"best_on_{best[2]}", metric=self.metric(best[1], inside=True)) + (self("averaged") if best[3] else "")

    @staticmethod
    def number(value: float | None) -> str:
        """Three digits; a dash if undefined."""
        return value_text(value, None)

    def value(self, value: float | None, low: float | None = None, high: float | None = None) -> str:
        """``value (low–high)``."""
        shown = value_text(value, None if low is None or high is None else (low, high))
        return shown.replace(" to ", " 至 ") if self._column else shown  # of negative limits

    @staticmethod
    def difference(value: float | None, low: float | None, high: float | None) -> str:
        """A difference with its sign and limits."""
        if value is None:
            return "–"
        return f"{value:+.3f}" + ("" if low is None or high is None else f" ({low:+.3f} … {high:+.3f})")

    @staticmethod
    def percent(share: float | None) -> str:
        """A share in percent with one digit, without it from 10 % on."""
        return "–" if share is None else f"{100 * share:.1f} %" if 0 < share < 0.0995 else f"{100 * share:.0f} %"

    @staticmethod
    def p(value: float | None) -> str:
        """A p-value."""
        return "–" if value is None or math.isnan(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"

    def interval(self, low: float | None, high: float | None, level: float) -> str:
        """The interval in words; empty if undefined."""
        return (
            "" if low is None or high is None else self("interval", level=f"{100 * level:g}", low=self.number(low), high=self.number(high))
        )

    def warning(self, warning: Mapping[str, Any]) -> str:
        """A warning of ``answer.warnings`` as a sentence."""
        values = {}
        for name, value in warning.items():
            if name == "metric":
                values[name] = self.metric(value, inside=True)
            elif name == "names":
                values[name] = self.listed(map(self.run, value))
            elif isinstance(value, list):
                values[name] = self.listed(value)
            else:
                values[name] = f"{value:.3g}" if isinstance(value, float) else value
        return self(f"warn_{values.pop('key')}", **values)

    def verdict(self, pair: Mapping[str, Any], metric: str, greater_is_better: bool, pairs: int) -> str:
        """The comparison of two runs in a sentence."""
        first, second, verdict = self.run(pair["first"]), self.run(pair["second"]), pair["verdict"]
        names = {"first": first, "second": second, "metric": self.metric(metric, inside=True)}
        if verdict in ("identical", "no test"):
            return self(f"sentence_{verdict.replace(' ', '_')}", **names)
        found = pair["metrics"][metric]
        p_value = self.p(found["adjusted_p_value"])
        p_value = f"p {p_value}" if p_value.startswith("<") else f"p = {p_value}"
        p_value += self("holm_of", pairs=pairs) if pairs > 1 else ""
        numbers = self.difference(found["difference"], found["low"], found["high"])
        power = "" if found["detectable"] is None else self("detectable_is", value=self.number(found["detectable"]))
        sentence = self(f"sentence_{verdict.replace(' ', '_')}", **names, numbers=numbers, p=p_value, power=power)
        return f"T{sentence[1:]}" if sentence.startswith("the ") else sentence  # names of runs stay as they are


_CHINESE_BASELINES = {english: BASELINES[method] for method, english in DESCRIPTIONS.items()}
