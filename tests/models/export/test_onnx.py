"""Graphs of towers in ONNX: onnxruntime computes what the model computes."""

import importlib.util

import numpy as np
import onnx
import onnxruntime
import pytest
import small_towers
import torch

from clipzoo.errors import BuildError
from clipzoo.models import CLIP, ImageClassifier
from clipzoo.models.export import onnx as export
from clipzoo.models.export.onnx import mask_of, write_image_graph, write_text_graph
from clipzoo.models.heads import LinearProjection


def build(image: str, text: str, folder) -> CLIP:
    torch.manual_seed(0)
    towers = small_towers.build(image, folder), small_towers.build(text, folder)
    return CLIP(*towers, embed_dim=16, image_projection=LinearProjection(), text_projection=LinearProjection()).eval()


def run(path, **inputs: torch.Tensor) -> torch.Tensor:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {name: value.numpy() for name, value in inputs.items()})[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("image", "text"), [("CLIPVision", "CLIPText"), ("HFVision siglip", "OpenCLIPText"), ("VisionTransformer", "HFText")]
)
@torch.no_grad()
def test_onnxruntime_computes_the_models_features(tmp_path, image, text):
    model = build(image, text, tmp_path)
    write_image_graph(model, tmp_path / "image.onnx", "X")
    write_text_graph(model, tmp_path / "text.onnx", "X")
    generator = torch.Generator().manual_seed(0)
    for shape in ((1, 30, 50, 3), (3, 70, 20, 3)):  # other batches and sizes than in the export
        pixels = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        expected = model.encode_image(export.Pixels(model.preprocessing)(pixels))
        torch.testing.assert_close(run(tmp_path / "image.onnx", image=pixels), expected, rtol=0, atol=1e-5)
    for sentences in (["!"], ["一张左侧髋关节的X线片", "a photo of a cat"]):
        tokens = model.tokenizer(sentences)
        found = run(tmp_path / "text.onnx", input_ids=tokens.ids, attention_mask=mask_of(tokens))
        torch.testing.assert_close(found, model.encode_text(tokens), rtol=0, atol=1e-5)


@pytest.mark.slow
@torch.no_grad()
def test_a_classifiers_graph_gives_logits_and_holds_no_path(tmp_path, repo):
    model = ImageClassifier(small_towers.build("ConvNeXt", tmp_path), 3).eval()
    for name in ("image.onnx", "again.onnx"):
        write_image_graph(model, tmp_path / name, "X")
    content = (tmp_path / "image.onnx").read_bytes()
    assert content == (tmp_path / "again.onnx").read_bytes()
    assert str(repo).encode() not in content and b"site-packages" not in content
    shape = onnx.load(tmp_path / "image.onnx").graph.input[0].type.tensor_type.shape.dim
    assert [dimension.dim_param or dimension.dim_value for dimension in shape] == ["batch", "height", "width", 3]
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 40, 30, 3), dtype=np.uint8))
    expected = model.logits(model.image_encoder(export.Pixels(model.preprocessing)(pixels)))
    torch.testing.assert_close(run(tmp_path / "image.onnx", image=pixels), expected, rtol=0, atol=1e-5)


def test_what_cannot_be_written_is_one_clear_line(tmp_path, monkeypatch):
    model = ImageClassifier(small_towers.build("ResNet", tmp_path), 3)
    with pytest.raises(BuildError, match="X: ImageClassifier has no text tower that can be exported"):
        write_text_graph(model, tmp_path / "text.onnx", "X")
    missing = {"onnx": None, "onnxscript": object(), "onnxruntime": None}
    monkeypatch.setattr(importlib.util, "find_spec", missing.get)
    with pytest.raises(
        BuildError, match=r"needs the packages onnx and onnxruntime. Install them \(pip install onnx onnxscript onnxruntime\)"
    ):
        export.check_packages("export")
    assert not list(tmp_path.iterdir())
