"""Explanations conditioned on a text: which part of an image speaks for it, drawn and checked."""

from clipzoo.explain.explaining import explain, explain_classes
from clipzoo.explain.explanation import Explanation

__all__ = ["Explanation", "explain", "explain_classes"]
