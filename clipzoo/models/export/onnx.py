"""Export to ONNX: one graph per tower, the image tower's with its preprocessing inside.

onnx and onnxscript, with which torch writes the graphs, are imported by torch itself: they are optional.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from clipzoo.errors import BuildError, first_line
from clipzoo.models.base import Model
from clipzoo.models.export.pixels import Pixels
from clipzoo.structures import Batch, Tokens

IMAGE, TEXT = "image.onnx", "text.onnx"
_OPSET = 18
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


class ImageGraph(nn.Module):
    """``image`` ``[B, H, W, 3]`` uint8, upright RGB of any size, to ``features`` ``[B, D]`` of length 1, or a classifier's ``logits``.

    Args:
        model: A model whose images can be compared with captions, or a classifier; in evaluation mode.
    """

    def __init__(self, model: Model):
        super().__init__()
        self.model, self.pixels = model, Pixels(model.preprocessing)

    @property
    def output(self) -> str:
        """Name of the result."""
        return "logits" if self.model.captions == "none" else "features"

    def forward(self, image: Tensor) -> Tensor:
        """See the class."""
        pixels = self.pixels(image)
        if self.output == "features":
            return self.model.encode_image(pixels)
        rows = torch.arange(pixels.shape[0])
        return self.model.predict(Batch(images=pixels, labels=torch.full_like(rows, -1), cases=rows))


class TextGraph(nn.Module):
    """``input_ids`` and ``attention_mask`` ``[N, L]`` int64, padded on the right, to ``features`` ``[N, D]`` of length 1.

    Args:
        model: A CLIP in evaluation mode.
    """

    output = "features"

    def __init__(self, model: Model):
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """See the class."""
        return self.model.encode_text(Tokens(input_ids, attention_mask.sum(dim=1)))


def check_packages(where: str) -> None:
    """Refuse to start without the optional packages.

    Raises:
        BuildError: A package is missing; the message says how to install all of them.
    """
    absent = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if absent:
        what = f"the package{'s' * (len(absent) > 1)} {' and '.join(absent)}"
        raise BuildError(f"{where}: the ONNX format needs {what}. Install them (pip install {' '.join(_PACKAGES)})")


def write_image_graph(model: Model, path: Path, where: str) -> None:
    """Write ``ImageGraph``; batch, height and width of its input are free.

    Raises:
        BuildError: torch cannot express the model in ONNX.
    """
    image = torch.zeros(2, 45, 67, 3, dtype=torch.uint8)
    _write(ImageGraph(model), {"image": image}, {"image": {0: "batch", 1: "height", 2: "width"}}, path, where)


def write_text_graph(model: Model, path: Path, where: str) -> None:
    """Write ``TextGraph``; the number of sentences and their length are free.

    The length is fixed for towers that read a whole context, padding included.

    Raises:
        BuildError: The model has no text tower, or torch cannot express it in ONNX.
    """
    if not hasattr(model, "encode_text") or model.tokenizer is None:
        raise BuildError(f"{where}: {type(model).__name__} has no text tower that can be exported")
    tokens = model.tokenizer(["a", "a b c"])
    inputs = {"input_ids": tokens.ids, "attention_mask": mask_of(tokens)}
    free = {0: "sentences"} if reads_whole_context(model) else {0: "sentences", 1: "length"}
    _write(TextGraph(model), inputs, {name: free for name in inputs}, path, where)


def reads_whole_context(model: Model) -> bool:
    """Whether every sentence fills the text tower's context, as in SigLIP."""
    return model.tokenizer(["a"]).ids.shape[1] == model.tokenizer.context_length


def mask_of(tokens: Tokens) -> Tensor:
    """``[N, L]`` int64: 1 for tokens, 0 for padding."""
    return (torch.arange(tokens.ids.shape[1])[None, :] < tokens.lengths[:, None]).long()


def _write(graph: nn.Module, inputs: dict[str, Tensor], free: dict[str, dict[int, str]], path: Path, where: str) -> None:
    with _quiet(), torch.no_grad():
        try:
            program = torch.onnx.export(
                graph.eval(),
                tuple(inputs.values()),
                dynamo=True,
                opset_version=_OPSET,
                input_names=list(inputs),
                output_names=[graph.output],
                dynamic_shapes=free,
                verbose=False,
            )
        except Exception as error:  # torch.export and its translation raise many types
            reason = first_line(error.__cause__ or error)
            raise BuildError(f"{where}: torch cannot express {type(graph.model).__name__} in ONNX ({reason})") from error
        _strip(program.model)
        program.save(path)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without warnings about names of dimensions, and notes of the optimiser about what it leaves as it is."""
    logger = logging.getLogger("onnxscript")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):  # torch prints what it could not trace
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _strip(model: object) -> None:
    """Remove torch's records of source files, which hold paths of this machine."""
    values = [*model.graph.inputs, *model.graph.initializers.values()]
    for node in model.graph.all_nodes():
        values += node.outputs
        node.metadata_props.clear()
        node.doc_string = None
    for value in values:
        value.metadata_props.clear()
    model.graph.metadata_props.clear()
    model.metadata_props.clear()
