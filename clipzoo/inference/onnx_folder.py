"""A folder that classifies and compares without torch: the towers in ONNX, the tokenizer, and the classes; checked before it is kept.

Shapes: B images · N sentences · C classes · D width of the features.
"""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from clipzoo.errors import BuildError, first_line
from clipzoo.files import check_new, new_folder, write_json, write_text
from clipzoo.inference.classifier import LoadedClassifier
from clipzoo.inference.clip import LoadedCLIP
from clipzoo.inference.model import LoadedModel
from clipzoo.models.export.onnx import IMAGE, TEXT, check_packages, mask_of, write_image_graph, write_text_graph
from clipzoo.models.weights.hf_files import files_of, write_files
from clipzoo.structures import Batch
from clipzoo.text import visible

TOKENIZER, CLASSES = "tokenizer.json", "classes.json"
TOLERANCE = 1e-4
_SENTENCES = ("a photo of a cat", "X-ray, left hip: 2 screws", "一张左侧髋关节的X线片", "!", "the patient’s “left” hip，ﬁxed")


@dataclass(frozen=True)
class Deviations:
    """The largest differences between the graphs in onnxruntime and the model, each with the number of inputs.

    Attributes:
        image: Of the features of images, or of a classifier's logits (relative to the largest, if that exceeds 1).
        text: Of the features of sentences; ``None`` without a text tower.
        probabilities: Of the class probabilities that follow from ``classes.json``; ``None`` without classes.
        num_images: Number of compared images.
        num_sentences: Number of compared sentences.
        sentence: The sentence with the largest difference; empty without a text tower.
    """

    image: float
    text: float | None
    probabilities: float | None
    num_images: int
    num_sentences: int
    sentence: str = ""

    @property
    def largest(self) -> float:
        """The largest of them; NaN if one is not a number."""
        return _largest([value for value in (self.image, self.text, self.probabilities) if value is not None])

    def describe(self) -> str:
        """Where they are too large, in words."""
        parts = {"image graph": self.image, "text graph": self.text, "class probabilities": self.probabilities}
        wrong = {name: value for name, value in parts.items() if value is not None and not value <= TOLERANCE}
        if list(wrong) == ["text graph"]:
            return f"text graph alone, most for the sentence {visible(repr(self.sentence))}; the tokenizer may be the reason"
        return ", ".join(f"{name} by {value:.2g}" for name, value in wrong.items())


def write_onnx(loaded: LoadedCLIP | LoadedClassifier, folder: str | Path, images: Sequence[str | Path | Image.Image] = ()) -> Deviations:
    """Write ``image.onnx``, ``text.onnx``, ``tokenizer.json`` and ``classes.json``, and compare them with the model.

    The comparison runs the graphs in onnxruntime on drawn noise of several sizes and on ``images``, through the model's own reading and
    preprocessing on the one side, and from the decoded pixels on the other.

    Args:
        loaded: A model on the CPU in fp32.
        folder: New folder.
        images: Further images to compare.

    Raises:
        BuildError: A package is missing, the model cannot be expressed in ONNX, or the graphs deviate by more than ``TOLERANCE``:
            nothing is then written.
        DataError: The folder exists or cannot be written, or an image cannot be read.
    """
    where = f"export: {loaded.source}"
    check_packages("export")
    check_new(Path(folder))
    given = loaded.decoded(images) if images else []
    if loaded.several_images:
        warnings.warn(f"{where} was trained on several images per case (data.views); the graph takes each image as a case", stacklevel=2)
    with _expressible_views(loaded, where), new_folder(Path(folder)) as new:
        write_image_graph(loaded.model, new / IMAGE, where)
        if isinstance(loaded, LoadedCLIP):
            write_text_graph(loaded.model, new / TEXT, where)
            _write_tokenizer(loaded, new)
        write_json(new / CLASSES, _classes(loaded))
        found = compare(loaded, new, [*_noise(loaded.preprocess.preprocessing.size), *given])
        if not found.largest <= TOLERANCE:
            raise BuildError(
                f"{where}: the ONNX graphs deviate from the model by {found.largest:.2g}, more than {TOLERANCE:g}: {found.describe()}. "
                "Nothing was written. Export for open_clip or transformers, or report it"
            )
    return found


@contextlib.contextmanager
def _expressible_views(loaded: LoadedModel, where: str) -> Iterator[None]:
    """Without the model's test views in this block, with a warning, if some of them cannot be translated; flips can."""
    tower = loaded.model.image_tower
    views = () if tower is None else tower.test_views
    if set(views) <= {"flip"}:
        yield
        return
    kinds = ", ".join(views)
    warnings.warn(
        f"{where} was scored with evaluation.tta ({kinds}), which the graph does not include: ONNX can express flip", stacklevel=4
    )
    tower.test_views = ()
    try:
        yield
    finally:
        tower.test_views = views


def compare(loaded: LoadedCLIP | LoadedClassifier, folder: Path, images: Sequence[Image.Image]) -> Deviations:
    """Compare the graphs of a folder with the model.

    Args:
        loaded: Model that was exported.
        folder: Result of ``write_onnx``.
        images: Upright RGB images; the first is also encoded in a batch with its negative.
    """
    stored = json.loads((folder / CLASSES).read_text(encoding="utf-8"))
    image = _session(folder / IMAGE)
    found = np.concatenate([_run(image, image=np.asarray(each)[None]) for each in images])
    pair = [ImageOps.invert(images[0]), images[0]]
    together = _run(image, image=np.stack([np.asarray(each) for each in pair]))
    is_clip = isinstance(loaded, LoadedCLIP)
    expected, of_pair = (loaded.encode_image(each).numpy() if is_clip else _logits(loaded, each) for each in (images, pair))
    of_image = _largest([_difference(found, expected), _difference(together, of_pair)])
    of_classes = None
    if stored["classes"]:
        of_classes = _difference(probabilities(found, stored), loaded.classify(images).probabilities.numpy())
    if not is_clip:
        return Deviations(of_image, None, of_classes, len(images), 0)
    sentences = list(dict.fromkeys([*_SENTENCES, *(text for texts in loaded.class_captions for text in texts)]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about truncation
        text, wanted = _encode(folder, loaded, sentences), loaded.encode_text(sentences).numpy()
    worst = sentences[int(np.abs(text - wanted).max(axis=1).argmax())]  # argmax is the first NaN, if there is one
    return Deviations(of_image, _difference(text, wanted), of_classes, len(images), len(sentences), worst)


def probabilities(outputs: np.ndarray, stored: dict) -> np.ndarray:
    """``[B, C]`` probabilities from features or logits ``[B, …]`` and the content of ``classes.json``."""
    logits = outputs.astype(np.float64)
    if stored["prototypes"] is not None:
        logits = stored["scale"] * logits @ np.array(stored["prototypes"]).T + stored["bias"]
    logits = logits / stored["calibration"]
    if stored["multi_label"]:
        return 1 / (1 + np.exp(-logits))
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def _classes(loaded: LoadedCLIP | LoadedClassifier) -> dict:
    """The content of ``classes.json``: what turns the graphs' results into probabilities."""
    model, is_clip = loaded.model, isinstance(loaded, LoadedCLIP)
    prototypes = loaded.encode_classes()[1].double().cpu().tolist() if is_clip and loaded.classes else None
    bias = float(torch.as_tensor(getattr(model.criterion, "logit_bias", 0.0)).detach()) if is_clip and model.multi_label else 0.0
    return {
        "classes": list(loaded.classes),
        "multi_label": model.multi_label,
        "captions": [list(texts) for texts in loaded.class_captions],
        "prototypes": prototypes,
        "scale": 1 / loaded.temperature if is_clip else 1.0,
        "bias": bias,
        "calibration": model.calibration,
        "preprocessing": asdict(model.preprocessing),
    }


def _write_tokenizer(loaded: LoadedCLIP, folder: Path) -> None:
    """One file for the library tokenizers, or all files of a tokenizer that only transformers can run."""
    make = getattr(loaded.tokenizer, "portable", lambda: None)
    made = make()
    if made is not None:
        write_text(folder / TOKENIZER, made.to_str(pretty=True))
    elif getattr(loaded.tokenizer, "hugging_face", None) is not None:
        write_files(folder, files_of(loaded.tokenizer.hugging_face, None), "export")


def _encode(folder: Path, loaded: LoadedCLIP, sentences: list[str]) -> np.ndarray:
    """``[N, D]`` features of sentences from the folder; with the model's own tokenizer if the folder has none in one file."""
    text = _session(folder / TEXT)
    if (folder / TOKENIZER).is_file() and getattr(loaded.tokenizer, "portable", None):
        from tokenizers import Tokenizer

        encoded = Tokenizer.from_file(str(folder / TOKENIZER)).encode_batch(sentences)
        ids, mask = np.array([each.ids for each in encoded]), np.array([each.attention_mask for each in encoded])
    else:
        tokens = loaded.tokenizer(sentences)
        ids, mask = tokens.ids.numpy(), mask_of(tokens).numpy()
    return _run(text, input_ids=ids.astype(np.int64), attention_mask=mask.astype(np.int64))


def _session(path: Path):
    """A session of onnxruntime on the CPU.

    Raises:
        BuildError: onnxruntime refuses the graph.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common base class
        reason = first_line(error).partition("failed:")[2] or first_line(error)
        raise BuildError(f"export: onnxruntime cannot run the model's {path.name} ({reason})") from error


def _run(session, **inputs: np.ndarray) -> np.ndarray:
    return session.run(None, inputs)[0]


@torch.inference_mode()
def _logits(loaded: LoadedClassifier, images: Sequence[Image.Image]) -> np.ndarray:
    pixels = torch.stack([loaded.preprocess(image) for image in images])
    rows = torch.arange(len(pixels))
    return loaded.model.predict(Batch(images=pixels, labels=torch.full_like(rows, -1), cases=rows)).numpy()


def _largest(values: Sequence[float]) -> float:
    """The largest number; NaN if any is not a number, which ``max`` hides."""
    return float("nan") if np.isnan(values).any() else float(max(values))


def _difference(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, relative to the largest expected number if that exceeds 1; NaN if any number is not finite."""
    if not (np.isfinite(found).all() and np.isfinite(expected).all()):
        return float("nan")
    return float(np.abs(found - expected).max() / max(1.0, np.abs(expected).max()))


def _noise(size: int) -> list[Image.Image]:
    """Wide, tall, small and square images of noise, whose every pixel matters."""
    generator = np.random.default_rng(0)
    shapes = ((size // 2 + 5, 2 * size + 3), (3 * size + 1, size + 7), (9, 11), (size, size))
    return [Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8)) for height, width in shapes]
