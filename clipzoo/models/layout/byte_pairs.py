"""OpenAI's byte pairs in the file format of transformers' tokenizer, created from the table that comes with open_clip."""

from __future__ import annotations

import functools
import json
from pathlib import Path

from clipzoo.errors import BuildError
from clipzoo.models.layout.json_file import as_object, read_object

_START, _END = "<|startoftext|>", "<|endoftext|>"  # open_clip spells these two differently


def tokenizer_files(context_length: int) -> dict[str, str]:
    """``vocab.json``, ``merges.txt`` and the other files of transformers' ``CLIPTokenizer``, name to content."""
    special = {"bos_token": _START, "eos_token": _END, "unk_token": _END, "pad_token": _END}
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": context_length, "do_lower_case": True, **special}
    return {
        "vocab.json": json.dumps(vocabulary(), ensure_ascii=False),
        "merges.txt": "\n".join(["#version: 0.2", *merges()]) + "\n",
        "tokenizer_config.json": json.dumps(config, indent=2),
        "special_tokens_map.json": json.dumps(special, indent=2),
    }


@functools.lru_cache(maxsize=1)
def vocabulary() -> dict[str, int]:
    """Token to id."""
    tokens = sorted(_table().encoder.items(), key=lambda item: item[1])
    return {**dict(tokens[:-2]), _START: tokens[-2][1], _END: tokens[-1][1]}


def merges() -> list[str]:
    """Pairs of tokens, in descending order of frequency."""
    return [" ".join(pair) for pair, _ in sorted(_table().bpe_ranks.items(), key=lambda item: item[1])]


def check_vocabulary(folder: Path, where: str) -> None:
    """Refuse a folder whose tokenizer has a vocabulary other than OpenAI's; a folder without a tokenizer passes.

    Raises:
        BuildError: The vocabulary differs; the message names the first such token.
    """
    for name in ("vocab.json", "tokenizer.json"):
        if not (folder / name).is_file():
            continue
        found = read_object(folder / name, where)
        if name == "tokenizer.json":
            found = as_object(as_object(found.get("model"), f"{where}: {name}: model").get("vocab"), f"{where}: {name}: model.vocab")
        wrong = [token for token, number in vocabulary().items() if found.get(token) != number]
        if wrong or len(found) != len(vocabulary()):
            which = f"{wrong[0]!r} is {found.get(wrong[0])} there" if wrong else f"it has {len(found)} tokens"
            raise BuildError(f"{where}: {name} is not OpenAI's vocabulary ({which}), which is the only one supported")


@functools.lru_cache(maxsize=1)
def _table():
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer()
