"""This project's own towers: loaded from every format, and exported to the libraries that the formats belong to."""

import open_clip
import pytest
import torch
from clip_files import (
    CHINESE,
    EMBED_DIM,
    SENTENCES,
    TEXT,
    VISION,
    ChineseCLIP,
    open_clip_model,
    output_of,
    pictures,
    save_open_clip_folder,
    save_script,
    scatter,
    transformers_clip,
    vocabulary_text,
)
from safetensors.torch import save_file
from torch.nn import functional as F

from clipzoo.errors import BuildError
from clipzoo.models import Model
from clipzoo.models.backbones import CLIPVision, OpenCLIPBackbone, TimmBackbone
from clipzoo.models.clip import CLIP
from clipzoo.models.export import from_model, write_open_clip, write_transformers
from clipzoo.models.heads import LinearProjection, MLPProjection
from clipzoo.models.losses import SigmoidContrastiveLoss
from clipzoo.models.text_encoders import BERT, CLIPText, OpenCLIPText
from clipzoo.models.weights import CLIPWeights, read_clip
from clipzoo.models.weights.clipzoo_format import FORMAT
from clipzoo.records.sealed import seal

SIZES = {
    "vit": {"image_size": 32, "patch_size": 8, "width": 64, "layers": 2, "heads": 4},
    "resnet": {"image_size": 64, "width": 8, "layers": [1, 2, 1, 1], "heads": 8},
}
TEXT_SIZES = {"width": 64, "layers": 2, "heads": 2}


def our_clip(vision="vit", image_dim=24, text_dim=24, quick_gelu=True, **arguments) -> CLIP:
    image = CLIPVision(**SIZES[vision], output_dim=image_dim, quick_gelu=None if vision == "resnet" else quick_gelu)
    return scatter(CLIP(image, CLIPText(**TEXT_SIZES, output_dim=text_dim, quick_gelu=quick_gelu), embed_dim=24, **arguments))


@torch.no_grad()
def assert_same_features(model: CLIP, encode_image, encode_text) -> None:
    images = pictures(model.preprocessing.size)
    ours, theirs = model.encode_image(images), F.normalize(encode_image(images), dim=-1)
    assert (ours[0] - ours[1]).abs().max() > 0.01
    torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-5)
    ours = model.encode_text(model.tokenizer(SENTENCES))
    torch.testing.assert_close(F.normalize(encode_text(open_clip.tokenize(SENTENCES)), dim=-1), ours, rtol=0, atol=1e-5)


# --- in ----------------------------------------------------------------------------------------------------------------------------------


def save_all(folder) -> dict[str, tuple[str, object, object, bool]]:
    """Every format of a CLIP with CLIP's text tower: path, how the reference encodes images and sentences, and QuickGELU."""
    saved = {}
    for vision in VISION:
        model, half = open_clip_model(vision, True), open_clip_model(vision, True)
        state = {key: value.half().float() if value.is_floating_point() else value for key, value in model.state_dict().items()}
        half.load_state_dict(state)
        save_script(half, folder / f"{vision}.pt")
        model.load_state_dict(state)
        saved[f"openai {vision}"] = (f"{vision}.pt", model.encode_image, model.encode_text, None)
        model = open_clip_model(vision, True)
        save_file(model.state_dict(), folder / f"{vision}.safetensors")
        saved[f"open_clip {vision}"] = (f"{vision}.safetensors", model.encode_image, model.encode_text, True)
        config = {"embed_dim": EMBED_DIM, "vision_cfg": VISION[vision], "text_cfg": TEXT}
        model = open_clip_model(vision, False)
        save_open_clip_folder(model, folder / vision, config)
        saved[f"open_clip folder {vision}"] = (vision, model.encode_image, model.encode_text, None)
    for activation in ("gelu", "quick_gelu"):
        model = transformers_clip(activation)
        model.save_pretrained(folder / activation)
        images, texts = (lambda x, m=model: output_of(m.get_image_features(x))), (lambda x, m=model: output_of(m.get_text_features(x)))
        saved[f"transformers {activation}"] = (activation, images, texts, None)
    return saved


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("formats")
    return {name: (str(folder / path), *rest) for name, (path, *rest) in save_all(folder).items()}


FORMATS = (
    *(f"{kind} {vision}" for kind in ("openai", "open_clip", "open_clip folder") for vision in VISION),
    *("transformers gelu", "transformers quick_gelu"),
)


@pytest.mark.fast_cases(4)
@pytest.mark.parametrize("name", FORMATS)
def test_towers_from_every_format(saved, name):
    path, encode_image, encode_text, said = saved[name]
    clip = CLIP(CLIPVision(pretrained=path, quick_gelu=said), CLIPText(pretrained=path, quick_gelu=said), embed_dim=EMBED_DIM).eval()
    assert_same_features(clip, encode_image, encode_text)


# --- out ---------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.fast_cases(3)
@pytest.mark.parametrize(("vision", "quick_gelu"), [("vit", True), ("vit", False), ("resnet", True)])
@pytest.mark.parametrize("dims", [(24, 24), (40, 48)], ids=str)  # the towers' own widths; another than 24 is projected
def test_open_clip_computes_what_we_do(tmp_path, vision, quick_gelu, dims):
    model = our_clip(vision, *dims, quick_gelu)
    weights = from_model(model)
    assert (weights.format, weights.quick_gelu, weights.preprocessing) == ("clipzoo", quick_gelu, model.preprocessing)
    write_open_clip(weights, tmp_path / "clip")
    loaded = open_clip.create_model(f"local-dir:{tmp_path / 'clip'}").eval()
    assert_same_features(model, loaded.encode_image, loaded.encode_text)
    assert loaded.logit_scale.item() == model.logit_scale.item()
    assert loaded.visual.preprocess_cfg["resize_mode"] == "longest"  # random towers see the whole image


@pytest.mark.parametrize("dims", [(24, 24), (40, 32)], ids=str)
def test_transformers_computes_what_we_do(tmp_path, dims):
    from transformers import CLIPModel

    model = our_clip("vit", *dims)
    write_transformers(from_model(model), tmp_path / "clip", fit="crop")
    loaded = CLIPModel.from_pretrained(tmp_path / "clip").eval()
    assert_same_features(model, lambda x: output_of(loaded.get_image_features(x)), lambda x: output_of(loaded.get_text_features(x)))


@pytest.mark.slow
@pytest.mark.parametrize("vision", ["vit", "resnet"])
def test_open_clips_own_towers_where_they_are_plain(tmp_path, vision):
    config = {
        "embed_dim": EMBED_DIM,
        "vision_cfg": {**VISION[vision], "head_width": 32},
        "text_cfg": {**TEXT, "heads": 4},
        "quick_gelu": True,
    }
    towers = [cls("theirs", pretrained=False, config=config) for cls in (OpenCLIPBackbone, OpenCLIPText)]
    model = scatter(CLIP(*towers, embed_dim=32))
    write_open_clip(from_model(model), tmp_path / "clip")
    loaded = open_clip.create_model(f"local-dir:{tmp_path / 'clip'}").eval()
    assert_same_features(model, loaded.encode_image, loaded.encode_text)
    for section, option in (("vision_cfg", {"pool_type": "avg"}), ("text_cfg", {"no_causal_mask": True})):
        changed = {**config, section: {**config[section], **option}}
        towers = [cls("theirs", pretrained=False, config=changed) for cls in (OpenCLIPBackbone, OpenCLIPText)]
        with pytest.raises(BuildError, match=f"tower theirs: {section}.{next(iter(option))}=.* is not supported in a plain CLIP"):
            from_model(CLIP(*towers, embed_dim=EMBED_DIM))


def test_a_bias_goes_into_a_resnets_own(tmp_path):
    model = our_clip("resnet", image_dim=40, image_projection=LinearProjection(bias=True))
    with torch.no_grad():  # as large as what it is added to, or it would not matter
        model.image_projection.layers.bias.mul_(model.image_encoder(pictures(64)).abs().mean())
    write_open_clip(from_model(model), tmp_path / "clip")
    loaded = open_clip.create_model(f"local-dir:{tmp_path / 'clip'}").eval()
    assert_same_features(model, loaded.encode_image, loaded.encode_text)


@pytest.mark.parametrize("vision", ["vit", "resnet"])
def test_a_round_trip_through_open_clip_is_exact(tmp_path, vision):
    model = our_clip(vision)
    write_open_clip(from_model(model), tmp_path / "clip")
    again = CLIP(CLIPVision(pretrained=str(tmp_path / "clip")), CLIPText(pretrained=str(tmp_path / "clip")), embed_dim=24)
    for tower in ("image_encoder", "text_encoder"):
        own, other = getattr(model, tower).state_dict(), getattr(again, tower).state_dict()
        assert own.keys() == other.keys() and all(torch.equal(own[key], other[key]) for key in own)
    assert again.preprocessing == model.preprocessing


@pytest.mark.parametrize("projection", [None, 24, 40])
def test_a_bert_from_scratch_becomes_a_chinese_clip(tmp_path, projection):
    from transformers import ChineseCLIPModel, ChineseCLIPProcessor

    bert = BERT(pretrained=False, hidden_size=64, num_layers=2, num_heads=2, max_length=20, projection=projection)
    model = scatter(CLIP(CLIPVision(**SIZES["vit"], output_dim=24), bert, embed_dim=24))
    weights = from_model(model)
    assert (weights.text_kind, weights.context_length, weights.text_heads) == ("bert", 20, 2)
    write_transformers(weights, tmp_path / "clip", fit="squash")
    loaded, processor = ChineseCLIPModel.from_pretrained(tmp_path / "clip").eval(), ChineseCLIPProcessor.from_pretrained(tmp_path / "clip")
    sentences = [*CHINESE, "Hüfte 12, AP"]
    inputs, ours = processor(text=sentences, return_tensors="pt", padding=True), model.tokenizer(sentences)
    assert torch.equal(inputs["input_ids"], ours.ids) and torch.equal(inputs["attention_mask"].sum(1), ours.lengths)
    with torch.no_grad():
        texts, images = output_of(loaded.get_text_features(**inputs)), output_of(loaded.get_image_features(pictures(32)))
        torch.testing.assert_close(F.normalize(texts, dim=-1), model.encode_text(ours), rtol=0, atol=1e-5)
        torch.testing.assert_close(F.normalize(images, dim=-1), model.encode_image(pictures(32)), rtol=0, atol=1e-5)


def test_a_chinese_clip_comes_in_and_goes_out(tmp_path):
    """Weights and vocabulary of the original file, through towers, to a folder that transformers loads."""
    from transformers import ChineseCLIPModel, ChineseCLIPProcessor

    reference = ChineseCLIP(len(vocabulary_text().split()))
    torch.save({"state_dict": reference.state_dict()}, tmp_path / "clip_cn.pt")
    (tmp_path / "vocab.txt").write_text(vocabulary_text(), encoding="utf-8")
    path = str(tmp_path / "clip_cn.pt")
    model = CLIP(CLIPVision(pretrained=path), BERT(pretrained=path), embed_dim=EMBED_DIM).eval()
    weights = from_model(model)
    assert_same(weights, read_clip(path, "X"))
    assert weights.preprocessing.fit == "squash" and weights.context_length == 52
    write_transformers(weights, tmp_path / "out")
    loaded, processor = ChineseCLIPModel.from_pretrained(tmp_path / "out").eval(), ChineseCLIPProcessor.from_pretrained(tmp_path / "out")
    inputs, ours = processor(text=CHINESE, return_tensors="pt", padding=True), model.tokenizer(CHINESE)
    assert torch.equal(inputs["input_ids"], ours.ids)
    with torch.no_grad():
        texts, images = output_of(loaded.get_text_features(**inputs)), output_of(loaded.get_image_features(pictures(32)))
        torch.testing.assert_close(F.normalize(texts, dim=-1), model.encode_text(ours), rtol=0, atol=1e-5)
        torch.testing.assert_close(F.normalize(images, dim=-1), model.encode_image(pictures(32)), rtol=0, atol=1e-5)


def assert_same(one: CLIPWeights, other: CLIPWeights) -> None:
    for tower in ("visual", "text"):
        left, right = getattr(one, tower), getattr(other, tower)
        assert left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


def test_the_weights_are_a_copy():
    model = our_clip()
    before = model.image_encoder.net.proj.clone()
    weights = from_model(model)
    weights.visual["proj"].zero_()
    weights.text["ln_final.weight"].zero_()
    assert torch.equal(model.image_encoder.net.proj, before) and model.text_encoder.ln_final.weight.abs().sum() > 0


def test_a_sigmoid_losss_bias_is_exported():
    assert from_model(our_clip(loss=SigmoidContrastiveLoss(9))).logit_bias == pytest.approx(-2.1972, abs=1e-4)


def test_what_no_library_could_load_is_refused():
    def refused(model, words: str) -> None:
        with pytest.raises(BuildError, match=words) as raised:
            from_model(model, "export.py: a.pth")
        assert str(raised.value).startswith("export.py: a.pth: ")

    text = CLIPText(**TEXT_SIZES, output_dim=24)
    image = CLIPVision(**SIZES["vit"], output_dim=24)
    refused(
        CLIP(TimmBackbone("test_resnet", image_size=32), text, embed_dim=24),
        "cannot export TimmBackbone test_resnet, as other libraries' CLIPs have no such image tower",
    )
    refused(CLIP(image, BERT(pretrained=False, pooling="mean"), embed_dim=24), "pooling='mean', but Chinese-CLIP pools a BERT at its first")
    refused(our_clip(image_projection=MLPProjection()), "model.image_projection is MLPProjection, which is not linear")
    refused(our_clip(image_dim=40, image_projection=LinearProjection(bias=True)), "model.image_projection has a bias")
    refused(our_clip(text_projection=LinearProjection(bias=True)), "model.text_projection has a bias")
    mixed = CLIPText(**TEXT_SIZES, output_dim=24, quick_gelu=True)
    refused(CLIP(image, mixed, embed_dim=24), "model.image_encoder with quick_gelu=False and model.text_encoder with quick_gelu=True")
    refused(Model(), "Model cannot be exported")


# --- checkpoints -------------------------------------------------------------------------------------------------------------------------


def checkpoint(model: CLIP, spec: dict) -> dict:
    """What the engine saves, as far as it is read here."""
    towers = {name: getattr(model, name).blueprint() for name in ("image_encoder", "text_encoder")}
    return {"format": FORMAT, "model": model.state_dict(), "towers": towers, "config": {"model": spec}}


def save_sealed(content: dict, path) -> None:
    torch.save(content, path)
    seal(path)


@pytest.mark.slow
@pytest.mark.parametrize("vision", ["vit", "resnet"])
def test_a_checkpoint_of_fine_tuned_weights_needs_no_other_file(tmp_path, vision):
    """The weights it began with, which decided the sizes and the activation, are gone."""
    write_open_clip(from_model(our_clip(vision)), tmp_path / "start")
    model = scatter(
        CLIP(CLIPVision(pretrained=str(tmp_path / "start")), CLIPText(pretrained=str(tmp_path / "start")), embed_dim=24), seed=5
    )
    start = str(tmp_path / "start")
    spec = {"type": "CLIP", "embed_dim": None, "temperature": None, "image_encoder": {"type": "CLIPVision", "pretrained": start}}
    spec["text_encoder"] = {"type": "CLIPText", "pretrained": start}
    save_sealed(checkpoint(model, spec), tmp_path / "checkpoint_best.pth")
    (tmp_path / "start").rename(tmp_path / "gone")
    state = torch.get_rng_state()
    weights = read_clip(tmp_path / "checkpoint_best.pth", "X")
    assert torch.equal(torch.get_rng_state(), state)
    assert_same(weights, from_model(model))
    assert (weights.format, weights.quick_gelu, weights.preprocessing) == ("clipzoo", True, model.preprocessing)
    again = CLIPVision(pretrained=str(tmp_path / "checkpoint_best.pth")).eval()
    with torch.no_grad():
        images = pictures(model.preprocessing.size)
        torch.testing.assert_close(again(images), model.image_encoder(images), rtol=0, atol=1e-6)


def test_checkpoints_that_are_no_clip_or_not_whole(tmp_path):
    def refused(content: dict, words: str) -> None:
        save_sealed(content, tmp_path / "a.pth")
        with pytest.raises(BuildError, match=words) as raised:
            read_clip(tmp_path / "a.pth", "CLIPText")
        assert str(raised.value).startswith(f"CLIPText: {tmp_path / 'a.pth'}") and "\n" not in str(raised.value)

    model = CLIP(TimmBackbone("test_resnet", image_size=32), CLIPText(**TEXT_SIZES, output_dim=24), embed_dim=24)
    spec = {"type": "CLIP", "embed_dim": 24, "image_encoder": "timm:test_resnet", "text_encoder": {"type": "CLIPText"}}
    content = checkpoint(model, spec)
    refused(content, "cannot export TimmBackbone test_resnet")
    refused({key: value for key, value in content.items() if key != "towers"}, "does not describe its model")
    refused({**content, "config": {"model": {**spec, "type": "TheirCLIP"}}}, "its model cannot be rebuilt .unknown model 'TheirCLIP'")
    refused({**content, "model": {"logit_scale": torch.tensor(1.0)}}, "the weights do not fit. .* missing")
    refused({**content, "model": {**content["model"], "logit_scale": 3.0}}, "does not describe its model")
    diverged = {**content["model"], "logit_scale": torch.tensor(float("nan"))}
    refused({**content, "model": diverged}, "1 of 1 numbers of logit_scale are NaN or infinite")
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(BuildError, match="it has no digest of its content"):
        read_clip(tmp_path / "a.pth", "CLIPText")
