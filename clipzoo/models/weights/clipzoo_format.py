"""Checkpoints of this project."""

from __future__ import annotations

from collections.abc import Mapping


def is_checkpoint(content: Mapping) -> bool:
    """Was the file written by this project?"""
    return str(content.get("format", "")).startswith("clipzoo-checkpoint-")


def from_checkpoint(content: Mapping, where: str):
    raise NotImplementedError
