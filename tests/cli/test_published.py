"""The commands models and download."""

import hub_cache
import pytest
from hub_server import Hub, serving

from clipzoo.models.catalogue import CATALOGUE


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """An empty cache of the hub, and no network."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_models_are_found_by_any_of_their_facts(command, cache):
    shown = command("models", "--search", "biomed").out
    assert (
        "openclip:hf-hub:microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224\n    image ViT-B/16 + text PubMedBERT, 195.9 M" in shown
    )
    assert (
        "195.9 M parameters, 224 px, English, biomedical, licence: MIT, from microsoft/BiomedCLIP" in shown
        and "hf:flaviagiammarino" in shown
    )
    assert "2 models, 0 in the local cache. To load one there: clipzoo download NAME" in shown
    assert "openclip:ViT-B-32-quickgelu/metaclip_400m" in command("models", "--search", "METACLIP_400m").out  # of open_clip's list


def test_without_a_search_the_catalogue_is_shown(command, cache):
    shown = command("models").out
    assert all(f"{published.name}\n" in shown for published in CATALOGUE)
    assert f"\n{len(CATALOGUE)} models, 0 in the local cache, and " in shown and "of open_clip with --all or --search" in shown
    assert (
        "openclip:coca_ViT-B-32/laion2b_s13b_b90k" not in shown
        and "openclip:coca_ViT-B-32/laion2b_s13b_b90k" in command("models", "--all").out
    )


def test_what_is_in_the_cache_is_said(command, cache):
    (hub_cache.put(cache, "google/siglip-base-patch16-224") / "model.safetensors").touch()
    (hub_cache.put(cache, "laion/CLIP-ViT-B-32-laion2B-s34B-b79K") / "open_clip_model.safetensors").touch()
    (hub_cache.put(cache, "facebook/dinov2-small") / "config.json").touch()  # no weights
    shown = command("models", "--cached").out
    assert "hf:google/siglip-base-patch16-224   (in the local cache)" in shown
    assert "openclip:ViT-B-32/laion2b_s34b_b79k   (in the local cache)" in shown
    assert "2 models, 2 in the local cache" in shown and "dinov2" not in shown


def test_a_search_without_a_result_is_one_line(command, cache):
    ended = command("models", "--search", "biomedd")
    assert ended.status == 2 and "matches 'biomedd'. Did you mean 'biomedical'?" in ended.err and ended.err.count("\n") == 1


def test_download_says_where_and_the_second_time_that_it_is_there(command, cache, monkeypatch, tmp_path):
    from huggingface_hub import close_session, constants

    (tmp_path / "small").mkdir()
    hub_cache.timm_repository(tmp_path / "small", "test_resnet")
    with serving(Hub(repositories={"someone/small": tmp_path / "small"})) as hub:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", hub.address)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.address + "/{repo_id}/resolve/{revision}/{filename}")
        close_session()
        first, second = (command("download", "timm:hf-hub:someone/small") for _ in range(2))
        close_session()
    assert f"timm:hf-hub:someone/small is now in the local cache, {cache}\n    TimmBackbone hf-hub:someone/small: " in first.out
    assert f"timm:hf-hub:someone/small is already in the local cache, {cache}\n" in second.out


def test_a_download_without_a_network_is_one_line(command, cache):
    ended = command("download", "chinese-clip:ViT-B-16")
    assert ended.status == 2 and ended.err.count("\n") == 1
    assert "HF_HUB_OFFLINE is set, and the weights are not in the local cache" in ended.err and "HF_ENDPOINT" in ended.err
