"""A folder for the hub: weights that other libraries load where they can, the classes, and the model card."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from clipzoo.engine import checkpoint
from clipzoo.errors import BuildError, first_line
from clipzoo.files import new_folder, write_text
from clipzoo.inference.export import drop_test_views, trained_model, warn_of_test_views
from clipzoo.inference.hub_checkpoint import read_hub_checkpoint, write_hub_checkpoint
from clipzoo.inference.hub_classes import HubClasses
from clipzoo.inference.model_card import described_model
from clipzoo.inference.restore import checkpoint_model
from clipzoo.models.base import Model
from clipzoo.models.export import from_model, wraps_towers, write_open_clip, write_open_clip_towers
from clipzoo.scoring.card.described import Described
from clipzoo.scoring.card.model_card import Usage, model_card, usage_of

CARD = "README.md"
_HERE = "."  # open_clip looks up a text encoder from the working directory


def write_hub(
    source: str | Path, folder: str | Path, *, repository: str = "", lang: Literal["en", "zh"] = "en", plugins: tuple[str, ...] = ()
) -> str:
    """Write a folder for the hub: in open_clip's layout if it has such towers, otherwise in clipzoo's own.

    Args:
        source: A checkpoint of clipzoo, or the folder of a fold.
        folder: New folder.
        repository: Repository that the folder is meant for, ``ORGANISATION/NAME``; empty if unknown.
        lang: Language of the card's text.
        plugins: Modules to import first; see ``clipzoo.load``.

    Returns:
        The library that loads it: ``'open_clip'`` or ``'clipzoo'``.

    Raises:
        BuildError: The source is no checkpoint.
        CheckpointError: A checkpoint or record is damaged, or its model cannot be rebuilt from the folder.
        DataError: The folder exists or cannot be written.
    """
    trained = trained_model(source, "export", plugins=plugins)
    if trained is None:
        raise BuildError(f"export: {source} is no checkpoint of clipzoo. The hub format is for trained models; its towers are on the hub")
    (model, path), described = trained, described_model(source)
    with new_folder(Path(folder)) as new:
        had_views = drop_test_views(model)
        if _in_open_clip(model, new / "model", path, repository or _HERE):
            library = "open_clip"
            _move_up(new / "model")
            if had_views:
                warn_of_test_views(f"export: {path}")
        else:
            library = "clipzoo"
            write_hub_checkpoint(checkpoint.read(path), new)
            checkpoint_model(read_hub_checkpoint(new), "cpu", f"export: {path}")
        found = HubClasses.of(described.classes, described.captions, multi_label=model.multi_label, calibration=described.calibration)
        found.write(new)
        usage = Usage(_code(library, repository, described, multi_label=model.multi_label), library)
        write_text(new / CARD, model_card(described, usage, lang=lang))
    return library


def push(folder: str | Path, repository: str) -> str:
    """Upload a folder to the hub, into a repository that is private if it is new; return its address.

    Raises:
        BuildError: The upload failed; the folder is kept.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    kept = f"The folder {folder} is complete: upload it later, or again with huggingface_hub"
    try:
        api = HfApi()
        address = api.create_repo(repository, private=True, exist_ok=True)
        api.upload_folder(folder_path=str(folder), repo_id=repository, commit_message="Add a model of clipzoo")
    except HFValidationError as error:
        raise BuildError(f"export: --push {repository!r} is not a name ORGANISATION/NAME ({first_line(error)}). {kept}") from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        log_in = ". Log in with 'hf auth login', or set HF_TOKEN to a token that may write there" if status in (401, 403) else ""
        raise BuildError(f"export: {constants.ENDPOINT} refused {repository} (status {status}){log_in}. {kept}") from error
    except Exception as error:  # offline: the client's HTTP library has errors of its own
        raise BuildError(f"export: cannot upload to {constants.ENDPOINT} ({first_line(error)}). {kept}") from error
    return str(address)


def _in_open_clip(model: Model, folder: Path, path: Path, name: str) -> bool:
    """Write the towers in open_clip's layout; false if open_clip has no such towers."""
    where = f"export: {path}"
    try:
        if wraps_towers(model, where):
            write_open_clip_towers(model, folder, where, name=name)
        else:
            write_open_clip(from_model(model, where), folder)
    except BuildError:  # the reason is that of --format open_clip
        return False
    return True


def _move_up(folder: Path) -> None:
    for file in folder.iterdir():
        file.rename(folder.parent / file.name)
    folder.rmdir()


def _code(library: str, repository: str, described: Described, *, multi_label: bool) -> str:
    """Lines of Python that load the folder."""
    if library == "clipzoo":
        return usage_of(described, f"clipzoo:{repository}" if repository else "FOLDER")
    source = f"hf-hub:{repository}" if repository else f"local-dir:{_HERE}"
    lines = [] if repository else ["# Run it in this folder: open_clip looks up the text encoder from the working directory."]
    lines += ["import open_clip", "", f"model, _, preprocess = open_clip.create_model_and_transforms({source!r})"]
    lines += [f"tokenizer = open_clip.get_tokenizer({source!r})", ""]
    if repository:
        return "\n".join([*lines, *_without_classes(f"openclip:hf-hub:{repository}")])
    if multi_label or not described.classes:
        return "\n".join([*lines, *_without_classes("FOLDER")])
    lines.append("# or, with the preprocessing of the training and the classes of classes.json:")
    return "\n".join([*lines, usage_of(described, "FOLDER")])


def _without_classes(source: str) -> list[str]:
    """Lines of Python for a source whose classes clipzoo does not read."""
    note = "# or, with the preprocessing of the training; the classes and their sentences are in classes.json:"
    load = ["import clipzoo", "", f"model = clipzoo.load({source!r})"]
    return [note, *load, "print(model.classify(['image.png'], ['a sentence', 'another sentence']).top(2))"]
