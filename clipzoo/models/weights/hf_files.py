"""The non-weight files of a Hugging Face model, as text: stored in checkpoints, which then need neither hub nor folder."""

from __future__ import annotations

import base64
import contextlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from clipzoo.errors import BuildError, first_line

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase


_BINARY = ".base64"  # ending of the names of files that are not text, such as the vocabulary of SentencePiece


def files_of(tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig | None) -> dict[str, str]:
    """File name to content: the tokenizer's files, and ``config.json``; what is not text is written in base 64."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        files = {} if config is None else config_file(config)
        for path in sorted(Path(folder).iterdir()):
            if path.is_file():
                try:
                    files[path.name] = path.read_text(encoding="utf-8")
                except UnicodeDecodeError:
                    files[f"{path.name}{_BINARY}"] = base64.b64encode(path.read_bytes()).decode()
    return dict(sorted(files.items()))


def config_file(config: PretrainedConfig) -> dict[str, str]:
    """``config.json`` and its content."""
    content = json.loads(config.to_json_string(use_diff=False))
    content.pop("_name_or_path", None)  # local source path, useless elsewhere
    return {"config.json": json.dumps(content, indent=1, sort_keys=True)}


def opened(name: str, files: Mapping[str, str] | None, where: str) -> contextlib.AbstractContextManager[str]:
    """The source for transformers: a folder with ``files`` if given, otherwise ``name`` itself, a hub name or a folder."""
    return contextlib.nullcontext(name) if files is None else folder_of(files, where)


def write_files(folder: Path, files: Mapping[str, str], where: str) -> None:
    """Write these files into a folder.

    Raises:
        BuildError: A name is not a plain file name.
    """
    for name, text in files.items():
        if Path(name).name != name or not isinstance(text, str):
            raise BuildError(f"{where}: files: {name!r} must be a plain file name with text content")
        if name.endswith(_BINARY):
            (folder / name.removesuffix(_BINARY)).write_bytes(base64.b64decode(text))
        else:
            (folder / name).write_text(text, encoding="utf-8", newline="")


@contextlib.contextmanager
def folder_of(files: Mapping[str, str], where: str) -> Iterator[str]:
    """A temporary folder with these files.

    Raises:
        BuildError: A name is not a plain file name.
    """
    with tempfile.TemporaryDirectory() as folder:
        write_files(Path(folder), files, where)
        try:
            yield folder
        except BuildError as error:  # the temporary folder's name would not help the reader
            raise BuildError(f"{where}: its files are damaged ({first_line(error).replace(folder, 'files')})") from error
