"""The non-weight files of a Hugging Face model, as text: stored in checkpoints, which then need neither hub nor folder."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from clipzoo.errors import BuildError
from clipzoo.models.weights.files import first_line

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase


def files_of(tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig | None, where: str) -> dict[str, str]:
    """File name to content: the tokenizer's files, and ``config.json``.

    Raises:
        BuildError: A tokenizer file is not text.
    """
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        if config is not None:
            content = json.loads(config.to_json_string(use_diff=False))
            content.pop("_name_or_path", None)  # local source path, useless elsewhere
            Path(folder, "config.json").write_text(json.dumps(content, indent=1, sort_keys=True), encoding="utf-8")
        try:
            return {path.name: path.read_text(encoding="utf-8") for path in sorted(Path(folder).iterdir()) if path.is_file()}
        except UnicodeDecodeError as error:
            raise BuildError(
                f"{where}: the tokenizer cannot be stored in a checkpoint, one of its files is not text ({error.reason})"
            ) from error


def opened(name: str, files: Mapping[str, str] | None, where: str) -> contextlib.AbstractContextManager[str]:
    """The source for transformers: a folder with ``files`` if given, otherwise ``name`` itself, a hub name or a folder."""
    return contextlib.nullcontext(name) if files is None else folder_of(files, where)


@contextlib.contextmanager
def folder_of(files: Mapping[str, str], where: str) -> Iterator[str]:
    """A temporary folder with these files.

    Raises:
        BuildError: A name is not a plain file name.
    """
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            if Path(name).name != name or not isinstance(text, str):
                raise BuildError(f"{where}: files: {name!r} must be a plain file name with text content")
            Path(folder, name).write_text(text, encoding="utf-8", newline="")
        try:
            yield folder
        except BuildError as error:  # the temporary folder's name would not help the reader
            raise BuildError(f"{where}: its files are damaged ({first_line(error).replace(folder, 'files')})") from error
