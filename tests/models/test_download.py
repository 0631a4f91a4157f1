"""Downloads from a hub: a local HTTP server that answers as the real one, and the messages if it does not have something."""

import hub_cache
import pytest
import torch
from hub_server import Hub, serving
from small_towers import bert_folder

from clipzoo.errors import BuildError, ConfigError
from clipzoo.inference.load import load
from clipzoo.models.published import download
from clipzoo.registries import BACKBONES, TEXT_ENCODERS


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub at HF_ENDPOINT, and an empty cache."""
    from huggingface_hub import close_session, constants, hf_api

    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with serving(Hub()) as hub:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "ENDPOINT", hub.address)  # read from HF_ENDPOINT at import
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.address + "/{repo_id}/resolve/{revision}/{filename}")
        monkeypatch.setattr(hf_api.api, "endpoint", hub.address)
        monkeypatch.setattr("transformers.utils.hub._hf_api", None, raising=False)
        close_session()
        yield hub
    close_session()


@pytest.fixture
def offline(monkeypatch):
    """Switch the network off."""
    from huggingface_hub import constants

    return lambda: monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def served(hub, repository, folder, *saves, **arguments):
    """Save a repository, and serve it."""
    folder.mkdir(parents=True)
    for save in saves:
        save(folder, **arguments)
    hub.repositories[repository] = folder
    return folder


def test_a_download_has_everything_that_a_machine_without_a_network_needs(hub, offline, tmp_path):
    served(hub, "google/small", tmp_path / "small", hub_cache.siglip, hub_cache.sentence_pieces)
    first = download("hf:google/small")
    assert not first.was_there and [tower.weights for tower in first.towers] == ["Hugging Face google/small"] * 2
    asked = len(hub.requests)
    assert download("google/small").was_there and len(hub.requests) == asked  # nobody is asked
    offline()
    model = load("google/small")
    features = model.encode_text(["a photo of a cat"])
    assert torch.isfinite(torch.as_tensor(features)).all() and model.source == "google/small"
    assert load("hf:google/small").source == "hf:google/small" and len(hub.requests) == asked


def test_what_another_repository_has_is_downloaded_too(hub, offline, tmp_path):
    """The text encoder's config and tokenizer of a model like BiomedCLIP."""
    served(hub, "someone/bert", tmp_path / "bert", bert_folder)
    text = {"hf_model_name": "someone/bert", "hf_tokenizer_name": "someone/bert", "hf_pooler_type": "mean_pooler", "context_length": 20}
    vision = {"image_size": 32, "layers": 1, "width": 64, "patch_size": 8}
    config = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}
    model = hub_cache.open_clip_model({**config, "text_cfg": {**text, "hf_model_name": str(tmp_path / "bert")}})
    hub_cache.save_open_clip(model, served(hub, "someone/small", tmp_path / "small"), config)
    assert not download("openclip:hf-hub:someone/small").was_there
    offline()
    assert download("openclip:hf-hub:someone/small").was_there
    assert load("openclip:hf-hub:someone/small").source == "openclip:hf-hub:someone/small"


def test_towers_of_one_kind_only(hub, tmp_path):
    dino = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
    served(hub, "someone/dino", tmp_path / "dino", hub_cache.image_model, kind="Dinov2", **dino)
    served(hub, "timm/small", tmp_path / "timm", hub_cache.timm_repository, architecture="test_vit")
    served(hub, "someone/bert", tmp_path / "bert", hub_cache.bert)
    for name, kind in (("hf:someone/dino", "HFVision"), ("timm/small", "TimmBackbone"), ("hf:someone/bert", "HFText")):
        assert [type(tower).__name__ for tower in download(name).towers] == [kind]
    with pytest.raises(BuildError, match="a dinov2 model, which has an image tower and no text tower"):
        load("hf:someone/dino")


def one_line(raised, *words):
    message = str(raised.value)
    assert all(word in message for word in words) and "\n" not in message, message


TYPO = "openai/clip-vit-base-patch23"


@pytest.mark.parametrize("name", [f"hf:{TYPO}", f"openclip:hf-hub:{TYPO}", "chinese-clip:a/b", "timm:hf-hub:a/b"])
def test_a_name_that_does_not_exist_is_one_line(hub, offline, name):
    with pytest.raises(BuildError) as raised:
        BACKBONES.build(name)
    one_line(raised, hub.address, "no such repository", "local copy")
    assert ("Did you mean 'openai/clip-vit-base-patch32'" in str(raised.value)) == ("openai" in name)
    offline()
    with pytest.raises(BuildError) as raised:
        BACKBONES.build(name)
    one_line(raised, "HF_HUB_OFFLINE is set, and the weights are not in the local cache", "local copy")


def test_a_name_for_use_says_that_it_is_no_path_either(hub):
    with pytest.raises(BuildError) as raised:
        load("openai/clip-vit-base-patch23")
    one_line(raised, "openai/clip-vit-base-patch23: no such file or folder, and cannot load", "Did you mean 'openai/clip-vit-base-patch32'")


def test_a_licence_to_be_accepted_is_said(hub, tmp_path):
    hub.gated.add("facebook/small")
    with pytest.raises(BuildError) as raised:
        BACKBONES.build("hf:facebook/small")
    one_line(raised, "only for users who accept its licence", "hf auth login")


def test_a_repository_of_another_library_is_named(hub, tmp_path):
    folder = served(hub, "someone/open", tmp_path / "open")
    (folder / "open_clip_config.json").write_text("{}")
    hub_cache.timm_repository(served(hub, "someone/timm", tmp_path / "timm"), "test_vit")
    hub_cache.clip(served(hub, "someone/clip", tmp_path / "clip"))
    for name, words in (
        ("hf:someone/open", "is in open_clip's layout. Use openclip:hf-hub:someone/open"),
        ("hf:someone/timm", "is in timm's layout. Use timm:hf-hub:someone/timm"),
        ("timm:hf-hub:someone/clip", "config.json is of a clip model of transformers. Use hf:"),
        ("openclip:hf-hub:someone/clip", "the repository has no open_clip_config.json"),
    ):
        with pytest.raises(BuildError) as raised:
            BACKBONES.build(name)
        one_line(raised, words)


def test_a_repository_without_an_image_processor_is_not_guessed_offline(hub, offline, tmp_path):
    """Whether the hub has one is unknown if only config and weights were downloaded."""
    from huggingface_hub import hf_hub_download

    folder = served(hub, "openai/small", tmp_path / "small", hub_cache.clip)
    for file in ("config.json", "model.safetensors"):
        hf_hub_download("openai/small", file)
    offline()
    with pytest.raises(BuildError, match=r"openai/small \(preprocessor_config.json\)"):
        BACKBONES.build("hf:openai/small")
    (folder / "preprocessor_config.json").unlink()


def test_naflex_is_refused(hub, tmp_path):
    folder = served(hub, "google/naflex", tmp_path / "naflex")
    (folder / "config.json").write_text('{"model_type": "siglip2", "text_config": {}, "vision_config": {}}')
    for table in (BACKBONES, TEXT_ENCODERS):
        with pytest.raises(BuildError) as raised:
            table.build("hf:google/naflex")
        one_line(raised, "'google/naflex' is a SigLIP 2 for images of any aspect ratio (NaFlex), which is not supported", "siglip2-base")


def test_only_published_names_are_downloaded(tmp_path):
    for name, words in (("resnet18", "Add :pretrained"), (f"hf:{tmp_path}", "is a local file or folder")):
        with pytest.raises(ConfigError) as raised:
            download(name)
        one_line(raised, words)
