"""Published models by the names that people use: written by the reference libraries into a cache laid out as the hub's, loaded by name."""

import hub_cache
import pytest
import torch
from hub_cache import SENTENCES, put

from clipzoo.registries import BACKBONES, TEXT_ENCODERS


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """An empty cache, and no network."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def agree(name, expected_images, expected_texts):
    """Both towers of ``name``, whose features are those of the reference library."""
    image, text = BACKBONES.build(name).eval(), TEXT_ENCODERS.build(name).eval()
    torch.manual_seed(1)
    images = torch.randn(3, 3, image.preprocessing.size, image.preprocessing.size)
    with torch.no_grad():
        torch.testing.assert_close(image(images), expected_images(images), rtol=0, atol=1e-5)
        tokens = text.tokenizer(SENTENCES)
        torch.testing.assert_close(text(tokens), expected_texts(SENTENCES), rtol=0, atol=1e-5)
    assert image.projected and text.projected and image.space == text.space is not None
    assert image.num_features == text.num_features and text.context_length == text.tokenizer.context_length
    assert (image.logit_scale, image.logit_bias) == (text.logit_scale, text.logit_bias)
    return image, text


def of_transformers(model, folder, **padding):
    """How transformers itself encodes images and sentences."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)

    def texts(sentences):
        inputs = tokenizer(list(sentences), truncation=True, return_tensors="pt", **padding)
        names = ("input_ids",) if padding["padding"] == "max_length" else ("input_ids", "attention_mask")
        return model.get_text_features(**{name: inputs[name] for name in names}).pooler_output

    return lambda images: model.get_image_features(images).pooler_output, texts


def test_clip(cache):
    folder = put(cache, "openai/small")
    model = hub_cache.clip(folder)
    image, text = agree("hf:openai/small", *of_transformers(model, folder, padding=True, max_length=20))
    assert image.space == "Hugging Face openai/small" and image.logit_scale == 3.5
    assert text.context_length == 20 and image.preprocessing.mean == (0.4, 0.5, 0.6) and image.preprocessing.fit == "crop"
