"""Repositories of ModelScope, through its own package: from its cache, and what is said if it does not have one."""

import sys

import hub_cache
import pytest
import torch
from hub_server import Hub, serving

from clipzoo.errors import BuildError
from clipzoo.inference.load import load
from clipzoo.models.weights.hub import local_name
from clipzoo.registries import BACKBONES, TEXT_ENCODERS

pytest.importorskip("modelscope")
pytestmark = pytest.mark.filterwarnings("ignore:Environment variable MODELSCOPE_DOMAIN is deprecated")


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """An empty cache of ModelScope, and no network."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "all_proxy", "MODELSCOPE_ENDPOINT", "MODELSCOPE_DOMAIN"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr("modelscope_hub.config._default_config", None)  # which is made from these variables
    return tmp_path


def test_a_repository_in_its_cache_is_found(cache):
    folder = cache / "models" / "AI-ModelScope" / "small"
    folder.mkdir(parents=True)
    model = hub_cache.chinese_clip(folder)
    for name in ("hf:modelscope:AI-ModelScope/small", "chinese-clip:modelscope:AI-ModelScope/small"):
        image, text = BACKBONES.build(name).eval(), TEXT_ENCODERS.build(name).eval()
        assert image.space == text.space == str(folder)
        images = torch.randn(2, 3, 32, 32)
        with torch.no_grad():
            torch.testing.assert_close(image(images), model.get_image_features(images).pooler_output, rtol=0, atol=1e-5)
        assert load(name).source == name


def test_without_a_network_the_message_is_one_line(cache):
    with pytest.raises(BuildError) as raised:
        BACKBONES.build("hf:modelscope:AI-ModelScope/absent")
    message = str(raised.value)
    assert "HF_HUB_OFFLINE is set, and it is not in ModelScope's cache" in message and "\n" not in message
    assert "set MODELSCOPE_DOMAIN" in message and "pass its folder" in message


def test_a_repository_that_does_not_exist_is_one_line(cache, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with serving(Hub()) as hub:
        monkeypatch.setenv("MODELSCOPE_DOMAIN", hub.address)
        with pytest.raises(BuildError) as raised:
            local_name("modelscope:AI-ModelScope/absent", "HFVision")
        assert any("AI-ModelScope/absent" in path for path in hub.requests)
    message = str(raised.value)
    assert f"cannot load 'AI-ModelScope/absent' from ModelScope ({hub.address} has no such repository)" in message and "\n" not in message
    monkeypatch.setenv("MODELSCOPE_DOMAIN", "http://127.0.0.1:9")
    with pytest.raises(BuildError, match="http://127.0.0.1:9 cannot be reached, and it is not in ModelScope's cache"):
        local_name("modelscope:AI-ModelScope/absent", "HFVision")


def test_without_the_package_the_message_says_what_to_install(cache, monkeypatch):
    monkeypatch.setitem(sys.modules, "modelscope.hub.snapshot_download", None)
    with pytest.raises(BuildError, match=r"needs the package modelscope. Install it \(pip install modelscope\), or download it elsewhere"):
        TEXT_ENCODERS.build("hf:modelscope:AI-ModelScope/small")
