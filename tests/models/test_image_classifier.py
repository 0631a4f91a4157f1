"""The classifier: losses and logits, the start from class captions, what it refuses; and CLIPClassifier as plain Python."""

import math

import pytest
import torch
from clip_files import open_clip_model
from torch import nn

from clipzoo import CLIPClassifier, ImageClassifier
from clipzoo.errors import BuildError, ConfigError
from clipzoo.models import CLIP
from clipzoo.models.backbones import Backbone, CLIPVision
from clipzoo.models.heads import CosineHead, LinearHead, ResidualMLPHead
from clipzoo.models.layout.states import load_strictly
from clipzoo.models.losses import ContrastiveLoss, CrossEntropyLoss, FocalLoss
from clipzoo.models.text_encoders import CLIPText
from clipzoo.models.weights.files import read_state_dict
from clipzoo.registries import HEADS, MODELS
from clipzoo.structures import Batch, ClassCaptions, Preprocessing

SENTENCES = ["a photo of a cat", "a cat", "a dog, lying", "!"]
CLASS_OF_SENTENCE = torch.tensor([0, 0, 1, 2])


class TinyImages(Backbone):
    """A convolution and a batch norm."""

    def __init__(self, freeze="none"):
        super().__init__(freeze=freeze)
        self.name, self.num_features, self.preprocessing = "tiny", 12, Preprocessing(size=8)
        self.net = nn.Sequential(nn.Conv2d(3, 12, 3), nn.BatchNorm2d(12), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.apply_freeze()

    def forward(self, images):
        return self.net(images)


def batch_of(labels=(0, 1, 2, -1, 1, 0), size=8, **given):
    images = torch.randn(len(labels), 3, size, size, generator=torch.Generator().manual_seed(5))
    return Batch(images=images, labels=torch.tensor(labels), cases=torch.arange(len(labels)), **given)


def tiny(seed=0, **arguments):
    torch.manual_seed(seed)
    return ImageClassifier(TinyImages(), 3, **arguments)


@pytest.fixture(scope="module")
def clip_file(tmp_path_factory):
    """A CLIP of 32 px as OpenAI saves one, with the temperature it was trained with."""
    model = open_clip_model("vit", quick_gelu=True)
    model.logit_scale.data.fill_(math.log(60))
    path = tmp_path_factory.mktemp("clip") / "clip.pt"
    marks = {"input_resolution": torch.tensor(32), "context_length": torch.tensor(77), "vocab_size": torch.tensor(49408)}
    torch.save({**model.state_dict(), **marks}, path)
    return str(path)


def towers(clip_file):
    return CLIPVision(pretrained=clip_file), CLIPText(pretrained=clip_file)


def captions_of(text):
    return ClassCaptions(text.tokenizer(SENTENCES), CLASS_OF_SENTENCE, torch.arange(4), 3)


@pytest.mark.parametrize("head", sorted(name for name in HEADS if HEADS.get(name).__module__.startswith("clipzoo.")))
def test_forward_gives_a_named_loss_and_trains_tower_and_head(head):
    model = MODELS.build({"type": "ImageClassifier", "image_encoder": TinyImages(), "head": head}, num_classes=3)
    losses = model(batch_of())
    assert list(losses) == ["cross_entropy", "in_batch_accuracy"] and model.captions == "none" and model.tokenizer is None
    losses["cross_entropy"].backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    assert model.image_encoder.net[0].weight.grad.abs().sum() > 0 or head == "ResidualMLPHead"
    assert {name for name, _ in model.named_children()} >= {"image_encoder", "head"}


def test_the_loss_is_that_of_the_logits_and_the_accuracy_that_of_the_known_cases():
    model, batch = tiny(loss=FocalLoss(1.0)).eval(), batch_of()
    losses, logits = model(batch), model.predict(batch)
    torch.testing.assert_close(losses["focal"], FocalLoss(1.0)(logits, batch.labels))
    known = batch.labels >= 0
    assert losses["in_batch_accuracy"].item() == pytest.approx((logits.argmax(1) == batch.labels)[known].float().mean().item())
    right = torch.tensor([*logits.argmax(1)[:3].tolist(), -1, -1, -1])
    assert model(Batch(batch.images, right, batch.cases))["in_batch_accuracy"] == 1
    assert model(Batch(batch.images, torch.full((6,), -1), batch.cases))["in_batch_accuracy"] == 0


def test_known_features_stand_for_the_images():
    model, batch = tiny().eval(), batch_of()
    features = model.image_encoder(batch.images)
    given = Batch(images=torch.empty(6, 0), labels=batch.labels, cases=batch.cases, features=features)
    assert torch.equal(model.predict(given), model.predict(batch))
    assert torch.equal(model.encode_image(None, features), model.encode_image(batch.images))
    torch.testing.assert_close(model.encode_image(batch.images), features / features.norm(dim=1, keepdim=True))
    assert model.lacks("encode_captions", "encode_image") == ["encode_captions"] and model.encode_classes(None) is None


def test_head_and_loss_work_in_fp32_under_autocast():
    model, batch = tiny(head=CosineHead(temperature=0.01)).eval(), batch_of()
    features = model.image_encoder(batch.images)
    given = Batch(torch.empty(6, 0), batch.labels, batch.cases, features=features)
    expected = model.logits(features)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model.predict(given), expected)
        assert model.predict(batch).dtype == model.encode_image(batch.images).dtype == torch.float32
        assert model(batch)["cross_entropy"].dtype == torch.float32


@pytest.mark.slow
@pytest.mark.parametrize("head", [CosineHead, lambda: LinearHead(normalize=True), lambda: ResidualMLPHead(normalize=True)])
def test_a_start_from_captions_predicts_what_zero_shot_does(clip_file, head):
    image, text = towers(clip_file)
    clip = CLIP(*towers(clip_file)).eval()
    model = ImageClassifier(image, 3, head(), text_encoder=text)
    assert model.tokenizer is text.tokenizer
    model.initialise(captions_of(text), torch.tensor([2, 2, 2]))
    batch = batch_of(size=32)
    expected = clip.predict(batch, clip.encode_classes(captions_of(clip.text_encoder)))
    torch.testing.assert_close(model.eval().predict(batch), expected, atol=1e-5, rtol=1e-5)
    assert model.text_encoder is None and model.tokenizer is None
    assert not any("text" in name for name in model.state_dict())
    again = ImageClassifier(CLIPVision(pretrained=clip_file), 3, head(), text_encoder=None)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.eval().predict(batch), model.predict(batch))
    said = [line for line in model.describe() if line.startswith("head ")]
    assert (
        f"{type(model.head).__name__}: 24 features to 3 classes, " in said[0] and "; started from 4 class captions, text tower" in said[0]
    )


def test_a_start_needs_a_head_and_towers_that_fit(clip_file):
    image, text = towers(clip_file)
    other = CLIPText(width=64, heads=1, layers=1, output_dim=24)
    narrow = CLIPVision(layers=1, width=64, heads=1, patch_size=8, image_size=32, output_dim=20)
    narrow.space = text.space
    gelu = CLIPVision(pretrained=clip_file)
    gelu.quick_gelu = False
    for encoder, texts, head, said in (
        (image, text, None, "LinearHead can only start from class captions with normalize=True"),
        (TinyImages(), text, CosineHead(), "features of tiny are not in a joint space"),
        (image, other, CosineHead(), "the towers' weights do not come from one model"),
        (narrow, text, CosineHead(), "features are 20 wide, the text tower's 24"),
        (gelu, text, CosineHead(), "image_encoder.quick_gelu=False, text_encoder.quick_gelu=True"),
    ):
        with pytest.raises(BuildError, match=said) as error:
            ImageClassifier(encoder, 3, head, text_encoder=texts)
        assert "\n" not in str(error.value) and "remove text_encoder" in str(error.value)
    with pytest.raises(BuildError, match="no class captions"):
        ImageClassifier(image, 3, CosineHead(), text_encoder=text).initialise(None, torch.tensor([1, 1, 1]))


def test_class_weights_come_from_initialise_and_stay_in_the_weights():
    model = tiny(loss=CrossEntropyLoss(class_weights="balanced"))
    model.initialise(None, torch.tensor([6, 3, 1]))
    weight = torch.tensor([10 / 18, 10 / 9, 10 / 3])
    torch.testing.assert_close(model.loss.weight_C, weight)
    again = tiny(seed=1, loss=CrossEntropyLoss(class_weights="balanced"))
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(batch_of())["cross_entropy"], model(batch_of())["cross_entropy"])
    assert "loss CrossEntropyLoss with class weights 'balanced', 0.556 … 3.33" in model.describe()


def test_a_frozen_tower_stays_and_the_temperature_stays_in_range():
    torch.manual_seed(0)
    model = ImageClassifier(TinyImages(freeze="all"), 3, CosineHead()).train()
    before = {name: value.clone() for name, value in model.image_encoder.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e4)
    model(batch_of())["cross_entropy"].backward()
    optimizer.step()
    model.after_step()
    assert 0 <= model.head.logit_scale.item() <= math.log(100) + 1e-6
    assert all(torch.equal(value, before[name]) for name, value in model.image_encoder.state_dict().items())
    model.checkpoint_gradients()  # a frozen tower keeps nothing
    with pytest.raises(BuildError, match="TinyImages does not support gradient checkpointing"):
        tiny().checkpoint_gradients()


def test_it_learns():
    torch.manual_seed(0)
    labels = tuple(torch.arange(32).remainder(3).tolist())
    model, batch = tiny(head=ResidualMLPHead(dropout=0.1)), batch_of(labels)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        model(batch)["cross_entropy"].backward()
        optimizer.step()
        model.after_step()
    assert (model.eval().predict(batch).argmax(1) == batch.labels).float().mean() > 0.95


@pytest.mark.parametrize("num_classes", [-1, 0, 1])
def test_fewer_than_two_classes_are_refused(num_classes):
    for make in (lambda: ImageClassifier(TinyImages(), num_classes), lambda: CLIPClassifier(num_classes)):
        with pytest.raises(
            ConfigError, match=rf"num_classes={num_classes}, but a classifier requires at least 2|num_classes: {num_classes} is not"
        ):
            make()


def test_losses_of_the_other_kind_are_refused():
    with pytest.raises(BuildError, match="ImageClassifier: ContrastiveLoss compares images with captions.*Choose CrossEntropyLoss"):
        tiny(loss=ContrastiveLoss())
    with pytest.raises(BuildError, match="CLIP: FocalLoss is a classification loss.*ImageClassifier"):
        CLIP(TinyImages(), nn.Identity(), FocalLoss())


def test_clip_classifier_is_the_old_scripts_model(clip_file):
    """Its own training loop: a criterion over the logits of plain images, of 16 pixels here."""
    torch.manual_seed(0)
    model = CLIPClassifier(3, None, freeze_encoder=True, device="cpu", pretrained=clip_file)
    batch = batch_of((0, 1, 2, 1), size=16)
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=0.1)
    model.train()
    for _ in range(30):
        optimizer.zero_grad()
        loss = nn.CrossEntropyLoss()(model(batch.images), batch.labels)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1 and model(batch.images).shape == (4, 3)
    assert {name for name, p in model.named_parameters() if p.requires_grad} == {"head.layers.weight", "head.layers.bias"}
    right = batch_of(size=32)
    assert torch.equal(model.eval()(right.images), model.predict(right)) and "cross_entropy" in model(right)
    torch.testing.assert_close(model.encode_image(right.images).norm(dim=1), torch.ones(6))


def test_what_the_docs_save_is_read_again(clip_file, tmp_path):
    """docs/classification.md: ``torch.save({"model_state_dict": …, "val_acc": …})``, also of a compiled or distributed model."""
    model = CLIPClassifier(3, None, device="cpu", pretrained=clip_file)
    for prefix in ("", "_orig_mod.", "module._orig_mod."):
        state = {f"{prefix}{key}": value for key, value in model.state_dict().items()}
        torch.save({"model_state_dict": state, "val_acc": 91.5}, tmp_path / "best.pth")
        read = read_state_dict(tmp_path / "best.pth", "X")
        again = CLIPClassifier(3, None, device="cpu", pretrained=clip_file)
        load_strictly(again, read, "X")
        assert all(torch.equal(value, model.state_dict()[key]) for key, value in again.state_dict().items())


def test_clip_classifier_checks_its_name():
    with pytest.raises(ConfigError, match="variant: 'ViT-B-32' is not one of .* Did you mean 'ViT-B/32'"):
        CLIPClassifier(3, "ViT-B-32", pretrained=False)
