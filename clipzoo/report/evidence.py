"""What a report needs the models for: explanations of the shown cases, and where the features of the test images lie.

Every image goes through the model of the fold that tested it, which was not trained on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from clipzoo.errors import ClipzooError, first_line
from clipzoo.explain import explain, explain_classes
from clipzoo.inference.load import load_one
from clipzoo.report.content.records import RunRecords
from clipzoo.report.pictures import PIXELS

if TYPE_CHECKING:
    from PIL import Image

    from clipzoo.datasets.base import Dataset
    from clipzoo.inference.classifier import LoadedClassifier
    from clipzoo.inference.clip import LoadedCLIP

MOST_EMBEDDED = 400  # images of all folds together, evenly chosen
_ROUNDED = 4  # digits of the places in an embedding


@dataclass
class Evidence:
    """What the models add to a report.

    Attributes:
        overlays: By case id, and the sentence or class that is spoken for: the picture with its explanation.
        embedding: By fold, where its test images and captions lie; see ``embed``.
        notes: What could not be computed.
    """

    overlays: dict[tuple[str, str], Image.Image] = field(default_factory=dict)
    embedding: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def gather(
    run: RunRecords, data: Dataset, cases: Mapping[str, list[dict[str, Any]]], *, method: str = "pca", say: Callable[[str], None]
) -> Evidence:
    """Explain the shown cases and embed the test images, fold by fold; what fails is a note, never an error.

    Args:
        run: Records of a training run.
        data: Its dataset.
        cases: The cases that the report shows, by section.
        method: ``'pca'``, ``'tsne'`` or ``'umap'``.
        say: Function that receives a line per fold.

    Returns:
        The evidence; empty for the kinds that failed in every fold.
    """
    found = Evidence()
    for fold in run.results:
        say(f"report: {fold}")
        try:
            model = load_one(run.folder / fold, device="auto", plugins=run.experiment.config.get("plugins", ()) if run.experiment else ())
        except ClipzooError as error:  # its checkpoint was deleted to save space, say
            found.notes.append(f"{fold}: {error}")
            continue
        key = "found" if run.kind == "retrieval" else "prediction"
        own = dict.fromkeys((case["case_id"], case[key]) for shown in cases.values() for case in shown if case["fold"] == fold)
        with _noted(fold, found.notes):
            found.overlays.update(explain_cases(model, run, data, list(own)))
        with _noted(fold, found.notes):
            found.embedding[fold] = embed(model, run, data, fold, method)
    return found


@contextmanager
def _noted(fold: str, notes: list[str]) -> Iterator[None]:
    """Turn a failure inside the block into a note: a report without explanations is still a report."""
    try:
        yield
    except (ClipzooError, RuntimeError) as error:  # a tower that cannot be explained, or too little memory
        notes.append(f"{fold}: {first_line(error)}")


def explain_cases(
    model: LoadedCLIP | LoadedClassifier, run: RunRecords, data: Dataset, cases: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], Image.Image]:
    """Why the model said what it said, on the first image of every case.

    Args:
        model: Model of the fold that tested the cases.
        run: Records of the run.
        data: Its dataset.
        cases: Ids, each with the class, finding or caption that is explained; a case may occur with several.
    """
    known = [(case_id, wanted) for case_id, wanted in cases if case_id in data.rows]
    if not known:
        return {}
    images = [data.read_image(data.rows[case_id]) for case_id, _ in known]
    explained = explain if run.kind == "retrieval" else explain_classes
    found = explained(model, images, [wanted for _, wanted in known])
    return {key: found.on(i, images[i], longest=PIXELS) for i, key in enumerate(known)}


def embed(model: LoadedCLIP | LoadedClassifier, run: RunRecords, data: Dataset, fold: str, method: str) -> dict[str, Any]:
    """Two-dimensional places of the test images of a fold, and of the captions of the classes.

    Images and captions are centred on their own means, as the two kinds lie apart in CLIP's space (the modality gap: Liang et al. 2022,
    arXiv:2203.02053). PCA is fitted to the images, and captions are put into its plane; t-SNE and UMAP place both together.
    """
    assert run.folds is not None
    tested = next(split.test for split in run.folds.splits if split.name == fold)
    step = max(-(-len(run.table.case_ids) // MOST_EMBEDDED), 1)
    ids = [case_id for case_id in tested[::step] if case_id in data.rows]
    images = [data.read_image(data.rows[case_id]) for case_id in ids]
    image_ND = model.encode_image(images).double().numpy()
    classes = list(data.classes)
    labels = [data.cases[data.rows[case_id]].label for case_id in ids]
    captions, text_TD = _captions(model, data, image_ND.shape[1])
    image_N2, text_T2 = _places(image_ND - image_ND.mean(axis=0), text_TD - text_TD.mean(axis=0) if len(text_TD) else text_TD, method)
    return {
        "case_ids": ids,
        "labels": [-1 if label is None else label for label in labels],
        "classes": classes,
        "x": np.round(image_N2[:, 0], _ROUNDED).tolist(),
        "y": np.round(image_N2[:, 1], _ROUNDED).tolist(),
        "captions": captions,
        "caption_x": np.round(text_T2[:, 0], _ROUNDED).tolist(),
        "caption_y": np.round(text_T2[:, 1], _ROUNDED).tolist(),
    }


def _captions(model: LoadedCLIP | LoadedClassifier, data: Dataset, width: int) -> tuple[list[str], np.ndarray]:
    """Class names and ``[C, D]`` mean features of their captions; none without classes or a text side."""
    of_class = data.class_captions()
    if not data.classes or not of_class or model.model.lacks("encode_captions"):
        return [], np.zeros((0, width))
    features = [model.encode_text([data.captions.sentences[i] for i in ids]).double().mean(dim=0).numpy() for ids in of_class]
    return list(data.classes), np.stack(features)


def _places(image_ND: np.ndarray, text_TD: np.ndarray, method: str) -> tuple[np.ndarray, np.ndarray]:
    """``[N, 2]`` and ``[T, 2]``."""
    from sklearn.decomposition import PCA

    if len(image_ND) < 4 or method == "pca":
        found = PCA(n_components=min(2, *image_ND.shape), svd_solver="full").fit(image_ND)
        places = [found.transform(rows) if len(rows) else np.zeros((0, 2)) for rows in (image_ND, text_TD)]
        return tuple(np.pad(rows, ((0, 0), (0, 2 - rows.shape[1]))) for rows in places)
    joint = np.concatenate([image_ND, text_TD])
    if method == "umap":
        from umap import UMAP

        placed = UMAP(random_state=0, n_neighbors=min(15, len(joint) - 1)).fit_transform(joint)
    else:
        from sklearn.manifold import TSNE

        placed = TSNE(random_state=0, perplexity=min(30, (len(joint) - 1) / 3)).fit_transform(joint)
    return placed[: len(image_ND)], placed[len(image_ND) :]
