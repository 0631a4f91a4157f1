"""The CLIP composition: captions once, the frozen table, the temperature, autocast."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from clipzoo.errors import BuildError, ConfigError
from clipzoo.models import CLIP
from clipzoo.models.backbones import Backbone, CLIPVision
from clipzoo.models.heads import LinearProjection, MLPProjection
from clipzoo.models.losses import CaptionCrossEntropyLoss, ContrastiveLoss, SigmoidContrastiveLoss
from clipzoo.models.text_encoders import BERT, CLIPText
from clipzoo.registries import LOSSES, MODELS
from clipzoo.structures import Batch, ClassCaptions, Preprocessing

SENTENCES = ["一张圆的图片", "方块", "a picture of stripes", "三角形，较长的一句描述"]


class TinyImages(Backbone):
    """A convolution and a batch norm."""

    def __init__(self, freeze="none"):
        super().__init__(freeze)
        self.name, self.num_features, self.preprocessing = "tiny", 12, Preprocessing(size=8)
        self.net = nn.Sequential(nn.Conv2d(3, 12, 3), nn.BatchNorm2d(12), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.apply_freeze()

    def forward(self, images):
        return self.net(images)


def tiny_text(**arguments):
    return BERT(pretrained=False, hidden_size=16, num_layers=1, num_heads=2, dropout=0.0, **arguments)


def tiny_clip(seed=0, text=None, image=None, **arguments):
    torch.manual_seed(seed)
    return CLIP(image or TinyImages(), text or tiny_text(), embed_dim=10, **arguments)


def batch_of(model, caption=(0, 1, 2, 0, 3, 1)):
    caption = torch.tensor(caption)
    torch.manual_seed(5)
    images = torch.randn(len(caption), 3, 8, 8)
    ids = torch.arange(len(SENTENCES))
    return Batch(images, caption, torch.arange(len(caption)), model.tokenizer(SENTENCES), caption, ids, ids, caption[:, None])


def classes_of(model, labels=(0, 1, 2, 2)):
    ids = torch.arange(len(SENTENCES))
    return ClassCaptions(model.tokenizer(SENTENCES), torch.tensor(labels), ids, max(labels) + 1)


@pytest.mark.parametrize("loss", ["CaptionCrossEntropyLoss", "ContrastiveLoss", "MultiPositiveContrastiveLoss", "SigmoidContrastiveLoss"])
def test_forward_gives_named_losses_and_trains_every_parameter(loss):
    model = tiny_clip(loss=LOSSES.build(loss))
    losses = model(batch_of(model))
    assert list(losses) == ["image_text"] and losses["image_text"].shape == () and losses["image_text"].dtype == torch.float32
    sum(losses.values()).backward()
    # Every parameter takes part: DistributedDataParallel needs it.
    assert [key for key, p in model.named_parameters() if p.grad is None] == []


def test_the_standard_loss_is_openais_figure_with_every_repeat_encoded():
    model = tiny_clip(loss=ContrastiveLoss()).double().eval()
    batch = batch_of(model)
    batch = Batch(**{**batch.__dict__, "images": batch.images.double()})
    image = F.normalize(model.image_projection(model.image_encoder(batch.images)), dim=-1)
    tokens = model.tokenizer([SENTENCES[i] for i in batch.caption])  # repeated captions are encoded again
    text = F.normalize(model.text_projection(model.text_encoder(tokens)), dim=-1)
    logits = image @ text.T * model.logit_scale.exp()
    target = torch.arange(len(logits))
    expected = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    got = model(batch)["image_text"]
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)
    ours = torch.autograd.grad(got, list(model.parameters()))
    theirs = torch.autograd.grad(expected, list(model.parameters()))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_features_have_length_one_and_full_precision_under_autocast():
    model = tiny_clip()
    batch = batch_of(model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model.image_encoder(batch.images).dtype == torch.bfloat16  # autocast is really on
        image, text = model.encode_image(batch.images), model.encode_text(batch.text)
        loss = model(batch)["image_text"]
        logits = model.predict(batch, model.encode_classes(classes_of(model)))
    for features in (image, text):
        assert features.dtype == torch.float32
        torch.testing.assert_close(features.norm(dim=-1), torch.ones(len(features)), rtol=0, atol=1e-6)
    assert loss.dtype == logits.dtype == torch.float32
    loss.backward()
    assert all(p.grad.dtype == torch.float32 for p in model.parameters())


def test_prediction_is_the_similarity_to_normalised_class_means():
    model = tiny_clip(temperature=0.05).eval()
    batch, classes = batch_of(model), classes_of(model)
    logits = model.predict(batch, model.encode_classes(classes))
    text = [F.normalize(model.text_projection(model.text_encoder(model.tokenizer([s]))), dim=-1)[0] for s in SENTENCES]
    prototypes = [text[0], text[1], F.normalize((text[2] + text[3]) / 2, dim=0)]
    for b in range(len(batch)):
        image = F.normalize(model.image_projection(model.image_encoder(batch.images[b : b + 1])), dim=-1)[0]
        for c in range(3):
            assert logits[b, c].item() == pytest.approx((image @ prototypes[c]).item() / 0.05, abs=1e-4)


def test_class_captions_are_encoded_in_chunks(monkeypatch):
    model = tiny_clip().eval()
    whole = model.encode_classes(classes_of(model))
    monkeypatch.setattr("clipzoo.structures.TEXT_CHUNK", 2)
    torch.testing.assert_close(model.encode_classes(classes_of(model)), whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize("make", [tiny_text, lambda freeze: CLIPText(width=16, layers=1, heads=2, output_dim=10, freeze=freeze)])
def test_a_frozen_text_table_equals_running_the_tower(make):
    model = tiny_clip(text=make(freeze="all")).train()
    batch, classes = batch_of(model), classes_of(model)
    expected = model.encode_text(batch.text), model(batch)["image_text"], model.encode_classes(classes)
    model.cache_text(model.tokenizer(SENTENCES), chunk=3)
    calls = []
    model.text_encoder.register_forward_hook(lambda *_: calls.append(1))
    got = model.encode_text(None, batch.caption_ids), model(batch)["image_text"], model.encode_classes(classes)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=2e-6)
    assert calls == []
    got[1].backward()
    assert [key for key, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    assert not any("table" in key for key in model.state_dict())


def test_the_table_is_not_used_for_captions_of_another_dataset():
    model = tiny_clip(text=tiny_text(freeze="all")).eval()
    model.cache_text(model.tokenizer(SENTENCES))
    others = ["正方形", "圆", "c", "d"]
    classes = ClassCaptions(model.tokenizer(others), torch.arange(4), torch.arange(4), 4)
    expected = F.normalize(model.text_projection(model.text_encoder(classes.tokens)), dim=-1)
    torch.testing.assert_close(model.encode_classes(classes), expected, rtol=0, atol=2e-6)
    more = ClassCaptions(model.tokenizer(others), torch.arange(4), torch.arange(3, 7), 4)  # ids beyond the table
    torch.testing.assert_close(model.encode_classes(more), expected, rtol=0, atol=2e-6)


def test_only_a_frozen_tower_can_be_cached():
    model = tiny_clip()
    with pytest.raises(ConfigError, match="freeze='all'"):
        model.cache_text(model.tokenizer(SENTENCES))


def test_frozen_towers_are_bit_identical_after_training_steps():
    model = tiny_clip(text=tiny_text(freeze="all"), image=TinyImages(freeze="all")).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1, weight_decay=0.5)
    for _ in range(3):
        optimizer.zero_grad()
        sum(model(batch_of(model)).values()).backward()
        optimizer.step()
    for key, value in model.state_dict().items():
        assert torch.equal(before[key], value) == key.startswith(("image_encoder.", "text_encoder.")), key


def test_the_log_scale_is_clamped_in_place_and_keeps_its_gradient():
    model = tiny_clip()
    assert model.logit_scale.item() == pytest.approx(math.log(1 / 0.07))
    for value, clamped in ((9.0, math.log(100)), (-1.0, 0.0), (2.0, 2.0)):
        model.logit_scale.data.fill_(value)
        model.after_step()
        assert model.logit_scale.item() == pytest.approx(clamped)
    model.logit_scale.data.fill_(math.log(100))
    model(batch_of(model))["image_text"].backward()
    assert model.logit_scale.grad.abs() > 0


def test_a_fixed_temperature_stays_and_is_in_the_checkpoint():
    model = tiny_clip(temperature=0.005, learn_temperature=False)
    model.after_step()
    assert not model.logit_scale.requires_grad
    assert model.state_dict()["logit_scale"].item() == pytest.approx(math.log(200))


@pytest.mark.parametrize(("temperature", "learn"), [(0.0, True), (-1.0, False), (0.005, True), (2.0, True)])
def test_a_temperature_out_of_range_is_refused(temperature, learn):
    with pytest.raises(ConfigError, match="temperature"):
        tiny_clip(temperature=temperature, learn_temperature=learn)


def test_projections_are_left_out_only_in_a_joint_space_of_the_same_width():
    def text(width):
        return CLIPText(width=16, layers=1, heads=2, output_dim=width)

    assert isinstance(tiny_clip(text=text(10)).text_projection, nn.Identity)
    assert isinstance(tiny_clip(text=text(11)).text_projection, LinearProjection)
    assert isinstance(tiny_clip(text=text(10), text_projection=MLPProjection()).text_projection, MLPProjection)
    assert isinstance(tiny_clip(image_projection=MLPProjection(hidden_features=7)).image_projection, MLPProjection)
    assert isinstance(tiny_clip().image_projection, LinearProjection)


def joint_towers(folder, widths=(10, 10), freeze="none", **said):
    """Both towers of one model where ``widths`` agree, otherwise of two."""
    from open_clip.model import CLIP as OpenCLIP
    from open_clip.model import CLIPTextCfg, CLIPVisionCfg

    files = []
    for index, width in enumerate(dict.fromkeys(widths)):
        torch.manual_seed(index)
        vision, text = CLIPVisionCfg(layers=1, width=64, patch_size=4, image_size=8), CLIPTextCfg(width=64, heads=1, layers=1)
        model = OpenCLIP(width, vision, text, init_logit_scale=3.0 + index, init_logit_bias=-7.0)
        files.append(str(folder / f"{index}.pt"))
        torch.save(model.state_dict(), files[-1])
    activations = {"quick_gelu": False, **said}
    image = CLIPVision(pretrained=files[0], quick_gelu=activations["quick_gelu"], freeze=freeze)
    return image, CLIPText(pretrained=files[-1], quick_gelu=activations.get("text", activations["quick_gelu"]), freeze=freeze)


def test_towers_of_one_model_keep_its_temperature_and_its_space(tmp_path):
    model = CLIP(*joint_towers(tmp_path), loss=SigmoidContrastiveLoss())
    assert model.embed_dim == 10 and isinstance(model.image_projection, nn.Identity) and isinstance(model.text_projection, nn.Identity)
    assert model.logit_scale.item() == 3.0 and model.loss.logit_bias.item() == -7.0 and model.logit_scale.requires_grad
    said = CLIP(*joint_towers(tmp_path), loss=SigmoidContrastiveLoss(), temperature=0.5)
    assert said.logit_scale.item() == pytest.approx(math.log(2)) and said.loss.logit_bias.item() == pytest.approx(-math.log(31))
    assert CLIP(TinyImages(), joint_towers(tmp_path)[1]).logit_scale.item() == pytest.approx(math.log(1 / 0.07))


def test_towers_of_two_models_start_from_the_usual_temperature(tmp_path):
    image, text = joint_towers(tmp_path, widths=(10, 11))
    model = CLIP(image, text)
    assert model.embed_dim == 512 and model.logit_scale.item() == pytest.approx(math.log(1 / 0.07))
    image.space = "another"  # two spaces of one width: each tower ends in a projection of its own, which is trained
    _, text = joint_towers(tmp_path)
    model = CLIP(image, text)
    assert isinstance(model.image_projection, nn.Identity) and model.logit_scale.item() == pytest.approx(math.log(1 / 0.07))


def test_frozen_towers_of_two_models_need_something_between_them(tmp_path):
    image, text = joint_towers(tmp_path, freeze="all")
    assert CLIP(image, text).embed_dim == 10  # of one model: scored as it is
    image.space = "another"
    with pytest.raises(BuildError, match="two different joint spaces .* both are frozen, and nothing between them is trained"):
        CLIP(image, text)
    assert isinstance(CLIP(image, text, image_projection=LinearProjection()).image_projection, LinearProjection)


def test_towers_of_one_model_have_one_activation(tmp_path):
    with pytest.raises(BuildError, match=r"image_encoder.quick_gelu=False, text_encoder.quick_gelu=True, but both .*0.pt\)"):
        CLIP(*joint_towers(tmp_path, text=True))


@pytest.mark.parametrize(("image", "text", "expected"), [(False, 40, 40), (False, None, 512), (True, 40, 512)])
def test_the_joint_width_is_that_of_the_towers_that_have_one(image, text, expected):
    vision = CLIPVision(width=32, layers=1, heads=1, patch_size=8, image_size=8, output_dim=20) if image else TinyImages()
    caption = tiny_text() if text is None else CLIPText(width=16, layers=1, heads=2, output_dim=text)
    assert CLIP(vision, caption).embed_dim == expected


def test_the_engine_learns_what_it_needs_from_the_model():
    model = tiny_clip(loss=CaptionCrossEntropyLoss())
    assert model.captions == "all" and tiny_clip().captions == "batch"
    assert model.preprocessing.size == 8 and model.tokenizer is model.text_encoder.tokenizer
    lines = "\n".join(model.describe())
    assert "TinyImages tiny: 12 features, weights random" in lines and "temperature 0.07 (learned), CaptionCrossEntropyLoss" in lines


def test_a_config_builds_it_by_short_names():
    model = MODELS.build(
        {
            "type": "CLIP",
            "image_encoder": {"type": "starnet_s050", "image_size": 32},
            "text_encoder": {"type": "bert", "hidden_size": 16, "num_layers": 1, "num_heads": 2},
            "image_projection": "MLPProjection",
            "loss": "SigmoidContrastiveLoss",
            "embed_dim": 8,
        }
    )
    assert model.encode_image(torch.randn(2, 3, 32, 32)).shape == (2, 8)


def test_it_learns():
    model = tiny_clip(seed=1).train()
    batch = batch_of(model, caption=(0, 1, 2, 3))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        sum(model(batch).values()).backward()
        optimizer.step()
        model.after_step()
    logits = model.predict(batch, model.encode_classes(classes_of(model, labels=(0, 1, 2, 3))))
    assert logits.argmax(dim=1).tolist() == [0, 1, 2, 3]


def test_loading_a_checkpoint_gives_the_same_predictions():
    first, second = tiny_clip(seed=1).eval(), tiny_clip(seed=2).eval()
    second.load_state_dict(first.state_dict())
    batch, classes = batch_of(first), classes_of(first)
    assert torch.equal(first.predict(batch, first.encode_classes(classes)), second.predict(batch, second.encode_classes(classes)))
