"""OpenAI's byte pairs in the file format of transformers' tokenizer, created from the table that comes with open_clip."""

from __future__ import annotations

import functools
import gzip
import importlib.util
import json
from pathlib import Path

from clipzoo.errors import BuildError
from clipzoo.models.layout.json_file import as_object, read_object

_START, _END = "<|startoftext|>", "<|endoftext|>"  # open_clip spells these two differently
_FILE = "bpe_simple_vocab_16e6.txt.gz"
_NUM_MERGES = 49408 - 2 * 256 - 2


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
    """Token to id: the 256 bytes, the same at the end of a word, the results of all merges, and the two special tokens."""
    characters = _characters()
    words = [*characters, *(f"{character}</w>" for character in characters), *(pair.replace(" ", "") for pair in merges()), _START, _END]
    return {word: number for number, word in enumerate(words)}


@functools.lru_cache(maxsize=1)
def merges() -> tuple[str, ...]:
    """Pairs of tokens, in descending order of frequency; read from open_clip's file, without importing it, which takes seconds."""
    found = importlib.util.find_spec("open_clip")
    folders = [] if found is None else list(found.submodule_search_locations or ())
    path = next((Path(folder, _FILE) for folder in folders if Path(folder, _FILE).is_file()), None)
    if path is None:
        raise BuildError(f"open_clip: its file {_FILE} is missing. Install open_clip_torch again")
    lines = gzip.decompress(path.read_bytes()).decode("utf-8").split("\n")
    return tuple(lines[1 : 1 + _NUM_MERGES])  # after a comment; CLIP does not use the rest


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


def _characters() -> list[str]:
    """A visible character for every byte: its own in Latin-1 if that is visible, and then one from U+0100 on."""
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [*map(chr, visible), *(chr(256 + number) for number in range(256 - len(visible)))]
