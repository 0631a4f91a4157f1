"""Using a trained or published CLIP from Python: the same numbers as in training, from a checkpoint and nothing else."""

from __future__ import annotations

import shutil
import unicodedata
import warnings
from dataclasses import replace

import clip_files
import numpy as np
import pytest
import torch
from checkpoint_files import saved
from PIL import Image
from tiny import tiny_config
from torch.nn import functional as F
from torchvision.transforms import v2

import clipzoo
from clipzoo.config import Config
from clipzoo.engine import build, checkpoint
from clipzoo.errors import BuildError, CheckpointError, ClipzooError, ConfigError, DataError, RegistryError
from clipzoo.inference import restore
from clipzoo.inference.load import load_one
from clipzoo.inference.model import Classification
from clipzoo.records.results import FoldResult
from clipzoo.records.sealed import check_seal
from clipzoo.records.tables import PredictionTable


@pytest.fixture(scope="module")
def work(tmp_path_factory, class_folders):
    """The tiny config, its first fold trained for an epoch."""
    from rich.console import Console

    from clipzoo.engine.cross_validation import CrossValidation

    folder = tmp_path_factory.mktemp("runs") / "tiny"
    config = Config.from_dict(tiny_config(class_folders, train={"epochs": 1}), "tiny")
    CrossValidation(config, folder, console=Console(quiet=True)).train(fold=1)
    return folder


@pytest.fixture(scope="module")
def loaded(work):
    return clipzoo.load(work / "fold_1")


@pytest.fixture(scope="module")
def files(class_folders):
    return [class_folders / name / "000.png" for name in ("圆", "方块", "条纹")]


# --- the same numbers as in training ----------------------------------------------------------------------------------------------------


def test_classifying_the_test_part_gives_the_table_of_the_run(loaded, work, class_folders):
    table = PredictionTable.read(work / "fold_1" / "predictions.csv")
    result = loaded.classify([class_folders / case_id for case_id in table.case_ids], batch_size=5)
    np.testing.assert_allclose(result.probabilities.numpy(), table.probabilities, atol=1e-6)
    assert result.classes == table.classes == loaded.classes
    assert result.predictions == [table.classes[i] for i in table.probabilities.argmax(axis=1)]


@pytest.mark.slow
def test_also_in_half_precision_where_a_frozen_text_tower_was_read_in_full(config_of, tmp_path, quiet, class_folders):
    from clipzoo.engine.cross_validation import CrossValidation

    text = {"type": "BERT", "pretrained": False, "hidden_size": 32, "num_layers": 1, "num_heads": 2, "freeze": "all"}
    runtime = {"device": "cpu", "threads": 1, "precision": "bf16"}
    config = config_of(train={"epochs": 1}, model={"text_encoder": text}, runtime=runtime)
    CrossValidation(config, tmp_path / "run", console=quiet).train(fold=1)
    table = PredictionTable.read(tmp_path / "run" / "fold_1" / "predictions.csv")
    paths = [class_folders / case_id for case_id in table.case_ids]
    half = clipzoo.load(tmp_path / "run")
    assert half.precision == "bf16"
    np.testing.assert_allclose(half.classify(paths).probabilities.numpy(), table.probabilities, atol=1e-6)
    full = clipzoo.load(tmp_path / "run", precision="fp32").classify(paths).probabilities.numpy()
    assert 1e-6 < np.abs(full - table.probabilities).max() < 0.1, "the precision is the checkpoint's unless said otherwise"


def test_probabilities_by_hand(loaded, files):
    texts = ["一个圆", "方块的图片", "条纹", "x"]
    image_ND, text_MD = loaded.encode_image(files).double(), loaded.encode_text(texts).double()
    result = loaded.classify(files, texts)
    for n in range(len(files)):
        exps = [float(torch.exp(image_ND[n] @ text_D / loaded.temperature)) for text_D in text_MD]
        np.testing.assert_allclose(result.probabilities[n], [e / sum(exps) for e in exps], atol=1e-5)
    assert result.top(2)[0] == sorted(zip(texts, result.probabilities[0].tolist(), strict=True), key=lambda pair: -pair[1])[:2]
    assert len(result) == 3 and len(result.top(99)[0]) == 4


def test_captions_of_a_class_are_averaged(loaded, files):
    texts = {"圆": ["一个圆", "圆形", "大大的圆"], "方块": "一个方块"}
    result = loaded.classify(files, texts)
    image_ND = loaded.encode_image(files)
    prototypes = torch.stack([F.normalize(loaded.encode_text(list(texts["圆"])).mean(dim=0), dim=0), loaded.encode_text("一个方块")[0]])
    expected = (image_ND @ prototypes.T / loaded.temperature).softmax(dim=1)
    np.testing.assert_allclose(result.probabilities, expected, atol=1e-5)
    assert result.classes == ("圆", "方块")


def test_templates_take_the_place_of_every_text(loaded, files):
    templates = ["一张{class_name}的图", "{class_name}"]
    by_hand = {name: [f"一张{name}的图", name] for name in ("圆", "方块")}
    for texts in (["圆", "方块"], {"圆": "圆", "方块": ["方块"]}):
        assert torch.equal(loaded.classify(files, texts, templates).probabilities, loaded.classify(files, by_hand).probabilities)
    own = loaded.classify(files, templates="这是{class_name}")
    assert torch.equal(own.probabilities, loaded.classify(files, [f"这是{name}" for name in loaded.classes]).probabilities)
    assert own.classes == loaded.classes


def test_similarity_is_the_cosine_of_every_pair(loaded, files):
    similarity = loaded.similarity(files, ["圆", "方块"])
    images, texts = loaded.encode_image(files), loaded.encode_text(["圆", "方块"])
    for n in range(3):
        for m in range(2):
            cosine = float(images[n] @ texts[m]) / float(images[n].norm() * texts[m].norm())
            assert abs(float(similarity[n, m]) - cosine) < 1e-6


def test_the_mean_of_several_models():
    one, two = (Classification(("a", "b"), torch.tensor([[p, 1 - p]])) for p in (0.9, 0.2))
    np.testing.assert_allclose(Classification.mean([one, two]).probabilities, [[0.55, 0.45]], atol=1e-7)
    with pytest.raises(DataError, match="different classes"):
        Classification.mean([one, Classification(("b", "a"), one.probabilities)])


# --- images -----------------------------------------------------------------------------------------------------------------------------


def test_all_kinds_of_images_give_the_same_features(loaded, files):
    expected = loaded.encode_image(files)
    assert expected.dtype == torch.float32 and expected.device.type == "cpu" and expected.shape == (3, 32)
    np.testing.assert_allclose(expected.norm(dim=1), 1, atol=1e-6)
    pictures = [Image.open(path) for path in files]
    uint8 = torch.stack([v2.functional.pil_to_tensor(picture.convert("RGB")) for picture in pictures])
    kinds = {
        "strings": [str(path) for path in files],
        "pictures": pictures,
        "uint8": uint8,
        "floats": uint8.float() / 255,
        "half precision, which is off by a tenth of a step": (uint8.float() / 255).half(),
        "mixed": [files[0], uint8[1], Image.open(files[2])],
        "a tensor of several in a list": [files[0], uint8[1:]],
        "a tuple": tuple(files),
    }
    for kind, images in kinds.items():
        assert torch.equal(loaded.encode_image(images), expected), kind
    alone = torch.cat([loaded.encode_image(image) for image in (files[0], uint8[1], str(files[2]))])
    torch.testing.assert_close(alone, expected)


def test_worker_processes_and_batches_change_nothing(loaded, files):
    images = [*files, *(Image.open(path) for path in files)] * 3
    told: list[int] = []
    expected = loaded.encode_image(images, progress=told.append)
    found = loaded.encode_image([*files, *(Image.open(path) for path in files)] * 3, batch_size=4, num_workers=2)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    assert told == [18]
    picture = Image.open(files[0])
    same = loaded.encode_image([picture] * 9, batch_size=1, num_workers=2)
    torch.testing.assert_close(same, expected[:1].expand(9, -1), atol=1e-6, rtol=0)  # else they share its position


def test_an_image_turned_by_its_camera_is_the_same_as_path_and_as_picture(loaded, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    wide = Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 40), dtype=np.uint8))
    wide.save(tmp_path / "turned.jpg", exif=exif)
    with Image.open(tmp_path / "turned.jpg") as picture:
        assert torch.equal(loaded.encode_image(picture), loaded.encode_image(tmp_path / "turned.jpg"))


def test_sixteen_bits_are_not_clipped(loaded, tmp_path):
    wide = np.linspace(0, 4095, 400).reshape(20, 20).astype(np.uint16)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    eight = Image.fromarray(np.rint(wide / 4095 * 255).astype(np.uint8))
    assert torch.equal(loaded.encode_image(tmp_path / "wide.png"), loaded.encode_image(eight))
    with Image.open(tmp_path / "wide.png") as picture:
        assert torch.equal(loaded.preprocess(picture), loaded.preprocess(eight))


def test_a_transform_of_ones_own(loaded, files):
    said = loaded.preprocess.preprocessing
    own = v2.Compose(
        [
            v2.RandomInvert(p=1),
            v2.Resize((32, 32)),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(list(said.mean), list(said.std)),
        ]
    )
    found = loaded.encode_image(files, transform=own)
    expected = loaded.image_features(torch.stack([own(Image.open(path).convert("RGB")) for path in files]))
    assert torch.equal(found, expected) and not torch.allclose(found, loaded.encode_image(files), atol=1e-4)
    one = loaded.classify(files[0], transform=own).probabilities
    torch.testing.assert_close(loaded.classify(files, transform=lambda image: own(image)).probabilities[:1], one)
    with pytest.raises(DataError, match="transform: gives Image, not a float tensor"):
        loaded.encode_image(files, transform=v2.Resize(32))
    with pytest.raises(DataError, match=r"transform: gives \[3, \d+, \d+\] for one image and other sizes"):
        loaded.encode_image([files[0], torch.zeros(3, 16, 32)], transform=v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]))


def test_features_can_be_trained_on(loaded, files):
    head = torch.nn.Linear(32, 2)
    head(loaded.encode_image(files)).sum().backward()
    head(loaded.encode_text("圆")).sum().backward()
    head(loaded.image_features(torch.zeros(2, 3, 32, 32))).sum().backward()
    assert head.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "empty list"),
        (3, "int is not an image"),
        ([None], "NoneType at position 0 is not an image"),
        (np.zeros((8, 8, 3)), r"ndarray at position 0 is not an image.*Image.fromarray"),
        (torch.zeros(1, 8, 8), r"position 0 has the shape \[1, 8, 8\]"),
        (torch.zeros(8, 8, 3, dtype=torch.uint8), r"has the shape \[8, 8, 3\]"),
        (torch.zeros(3, 8, 8, dtype=torch.int64), "is int64"),
        (torch.full((3, 8, 8), 200.0), "values from 200 to 200.*Divide by 255"),
        (torch.full((3, 8, 8), -0.5), "already normalised"),
        (torch.full((3, 8, 8), float("nan")), "values from nan"),
    ],
)
def test_what_is_no_image_is_refused(loaded, images, message):
    with pytest.raises(DataError, match=message):
        loaded.encode_image(images)


def test_missing_files_are_all_named_before_anything_is_computed(loaded, files, tmp_path, monkeypatch):
    monkeypatch.setattr(loaded.model, "encode_image", None)
    missing = [tmp_path / "a.png", tmp_path / "b.png"]
    for call in (loaded.encode_image, loaded.classify, lambda images: loaded.similarity(images, "圆")):
        with pytest.raises(DataError, match="a.png: no such file .*b.png"):
            call([files[0], *missing])
    with pytest.raises(DataError, match="is a folder, not an image"):
        loaded.encode_image(tmp_path)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_damaged_file_is_named(loaded, files, tmp_path, num_workers):
    (tmp_path / "half.png").write_bytes(files[0].read_bytes()[:80])
    with pytest.raises(DataError, match=r"^[^\n]*half.png: [^\n]*damaged[^\n]*$"):
        loaded.encode_image([*files, tmp_path / "half.png"], num_workers=num_workers)
    with pytest.raises(DataError, match="half.png.* cannot be decoded"):
        loaded.encode_image(Image.open(tmp_path / "half.png"), num_workers=num_workers)


# --- texts ------------------------------------------------------------------------------------------------------------------------------


def test_texts_are_cleaned_as_in_training(loaded, monkeypatch):
    plain = loaded.encode_text("café 髋")
    assert plain.shape == (1, 32) and abs(float(plain.norm()) - 1) < 1e-6
    decomposed = unicodedata.normalize("NFD", "  café 髋\n")
    assert torch.equal(loaded.encode_text(decomposed), plain)
    seen, tokenizer = [], loaded.model.tokenizer

    def listening(sentences):
        seen.extend(sentences)
        return tokenizer(sentences)

    listening.context_length, listening.count = tokenizer.context_length, tokenizer.count
    monkeypatch.setattr(loaded.model, "tokenizer", listening)
    loaded.encode_text(decomposed)
    loaded.classify(torch.zeros(3, 8, 8), [decomposed, "圆"])
    assert seen == ["café 髋", "café 髋", "圆"], "not every tokenizer does it"


def test_a_text_does_not_depend_on_its_company(loaded):
    texts = ["圆", "一张很长很长的关于方块的图片", "圆", "条纹 "]
    together = loaded.encode_text(texts)
    assert torch.equal(together[0], together[2])
    for row, text in enumerate(texts):
        torch.testing.assert_close(together[row : row + 1], loaded.encode_text(text), atol=1e-6, rtol=0)


def test_long_texts_are_cut_with_a_warning_or_refused(loaded):
    long = "方" * 80
    with pytest.warns(UserWarning, match="'方+…' has 82 tokens, but only 64 fit; the rest is ignored"):
        cut = loaded.encode_text([long, "圆"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.testing.assert_close(loaded.encode_text("方" * 62), cut[:1], atol=1e-6, rtol=0)
    with pytest.raises(DataError, match=r"has 82 tokens, but only 64 fit \(and 1 more\). Shorten"):
        loaded.encode_text([long, "圆" * 90], allow_overlong=False)
    with pytest.raises(DataError, match="82 tokens"):
        loaded.classify(torch.zeros(3, 8, 8), [long, "圆"], allow_overlong=False)


@pytest.mark.parametrize("texts", [[], "", " ", ["圆", "\n"]])
def test_empty_texts_are_refused(loaded, texts):
    with pytest.raises(DataError, match="there is no text|is empty"):
        loaded.encode_text(texts)


@pytest.mark.parametrize(
    ("texts", "templates", "message"),
    [
        (["圆"], None, "a single class .* would always have probability 1"),
        ("圆", None, "a single text "),
        (["圆", "圆"], None, "describes two classes"),
        (["圆", " 圆 "], None, "describes two classes"),
        ({"a": ["圆"], "b": []}, None, "class 'b': there is no text"),
        (["圆", ""], None, "position 1 is empty"),
        (["圆", 3], None, "3 is not a text"),
        (["圆", None], None, "None is not a text"),
        ({"a": "圆", "b": 3}, None, "class 'b': 3 is not a text"),
        (["圆", "方块"], "a photo", "does not contain {class_name}"),
        (["圆", "方块"], [], "templates: the list is empty"),
        (["\u4e00" * 70 + "a", "\u4e00" * 70 + "b"], None, "have the same tokens"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_texts_that_cannot_be_classes_are_refused(loaded, texts, templates, message):
    with pytest.raises(ClipzooError, match=message):
        loaded.classify(torch.zeros(3, 8, 8), texts, templates)


# --- from a checkpoint and nothing else --------------------------------------------------------------------------------------------------


def test_only_the_checkpoint_is_needed(config_of, tmp_path, monkeypatch, files):
    """The weights file of the image tower and the folder of the text tower are gone, as are the images."""
    import timm
    from transformers import BertConfig, BertModel, BertTokenizer

    (tmp_path / "bert").mkdir()
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted(set("这是一张方块圆条纹的图片髋关节"))]
    (tmp_path / "bert" / "vocab.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    BertTokenizer(str(tmp_path / "bert" / "vocab.txt")).save_pretrained(tmp_path / "bert")
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=30, **size)).save_pretrained(tmp_path / "bert")
    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "resnet.pth")
    image = {"type": "TimmBackbone", "name": "test_resnet", "image_size": 32, "pretrained": str(tmp_path / "resnet.pth")}
    text = {"type": "HFText", "name": str(tmp_path / "bert")}
    path, net = saved(tmp_path / "moved" / "x.pth", config_of(model={"image_encoder": image, "text_encoder": text}))
    expected = net.eval().encode_captions(net.tokenizer(["髋关节"])).detach()
    shutil.rmtree(tmp_path / "bert")
    (tmp_path / "resnet.pth").unlink()
    for name in ("dataset", "folds"):
        monkeypatch.setattr(build, name, None)
    loaded = clipzoo.load(path)
    torch.testing.assert_close(loaded.encode_text("髋关节"), expected)
    assert loaded.classify(files).classes == ("圆", "方块", "条纹")
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in loaded.model.state_dict().items())


def test_preprocessing_is_the_checkpoints(config_of, tmp_path, files):
    path, _ = saved(tmp_path / "x.pth", config_of())
    content = checkpoint.read(path)
    content["preprocessing"].update(mean=[0.1, 0.2, 0.3], std=[0.4, 0.5, 0.6], interpolation="bicubic")
    checkpoint.write(path, content)
    loaded = clipzoo.load(path)
    assert loaded.preprocess.preprocessing == loaded.model.preprocessing
    black = loaded.preprocess(Image.new("L", (9, 5)))
    np.testing.assert_allclose(black.mean(dim=(1, 2)), [-0.1 / 0.4, -0.2 / 0.5, -0.3 / 0.6], rtol=1e-5)
    assert black.shape == (3, 32, 32)


def test_loading_draws_nothing_and_leaves_a_model_in_training_as_it_is(work, files):
    torch.manual_seed(7)
    state = torch.get_rng_state()
    loaded = clipzoo.load(str(work / "fold_1" / "checkpoint_latest.pth"))
    assert torch.equal(torch.get_rng_state(), state) and not loaded.model.training
    expected = loaded.encode_image(files)
    loaded.model.train()
    assert torch.equal(loaded.encode_image(files), expected) and loaded.model.training
    assert torch.equal(torch.get_rng_state(), state), "no dropout either"


def test_the_digest_stands_for_the_features(work, loaded):
    again = clipzoo.load(work)
    assert again.digest == loaded.digest == clipzoo.load(work / "fold_1").digest and len(loaded.digest) == 32
    assert clipzoo.load(work, precision="bf16").digest != loaded.digest
    with torch.no_grad():
        next(again.model.image_encoder.parameters())[0] += 1e-3
    assert again.digest != loaded.digest


def test_it_says_what_it_is(loaded, work):
    text = "\n".join(loaded.describe())
    for words in (str(work / "fold_1"), "fold_1, epoch 1", "32 px", "cpu fp32", "3 classes: 圆, 方块, 条纹", "temperature"):
        assert words in text
    assert "random" not in text
    assert 0.01 <= loaded.temperature <= 1 and loaded.tokenizer.context_length == 64 and "load" in dir(clipzoo)


# --- what to load -----------------------------------------------------------------------------------------------------------------------


def test_a_fold_means_its_scored_checkpoint_then_the_best_then_the_latest(config_of, tmp_path):
    best, _ = saved(tmp_path / "fold_1" / "checkpoint_best.pth", config_of())
    assert restore.checkpoint_of(tmp_path / "fold_1") == best
    latest = shutil.copy(best, tmp_path / "fold_1" / "checkpoint_latest.pth")
    assert restore.checkpoint_of(tmp_path / "fold_1") == best
    result = FoldResult("fold_1", "last epoch", latest.name, 1, 1, {}, {}, {}, 1.0, "cpu", "fp32", 1, checkpoint_digest=check_seal(latest))
    result.write(tmp_path / "fold_1")
    assert restore.checkpoint_of(tmp_path / "fold_1") == latest == restore.checkpoint_of(tmp_path)
    replace(result, checkpoint_digest="0" * 64).write(tmp_path / "fold_1")
    with pytest.raises(CheckpointError, match="checkpoint_latest.pth: is not the checkpoint that was scored for result.json"):
        restore.checkpoint_of(tmp_path)
    (tmp_path / "fold_1" / "result.json").unlink()
    best.unlink()
    assert restore.checkpoint_of(tmp_path) == latest


def test_several_folds_are_listed_in_order(config_of, tmp_path):
    path, _ = saved(tmp_path / "fold_2" / "checkpoint_best.pth", config_of())
    for fold in (10, 1):
        shutil.copytree(path.parent, tmp_path / f"fold_{fold}")
    with pytest.raises(CheckpointError, match="contains the checkpoints of 3 folds.*fold_1, .*fold_2, .*fold_10$"):
        load_one(tmp_path)
    with pytest.raises(CheckpointError, match="no fold is done yet.*: fold_1, fold_2, fold_10$"):
        clipzoo.load(tmp_path)


def test_what_cannot_be_loaded_is_one_clear_line(tmp_path, work, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("hello", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    (tmp_path / "begun").mkdir()
    for name in ("config.json", "folds.json"):
        shutil.copy(work / name, tmp_path / "begun")
    (tmp_path / "checkpoint_best.pth").write_bytes((work / "fold_1" / "checkpoint_best.pth").read_bytes()[:5000])
    torch.save({"weight": torch.zeros(3)}, "other.pt")
    cases = [
        ("notes.tx", CheckpointError, "no such checkpoint or published name. Did you mean 'notes.txt'"),
        ("notes.txt", CheckpointError, "neither a checkpoint of clipzoo nor weights of a CLIP"),
        ("empty", CheckpointError, "contains no checkpoint. Pass a checkpoint"),
        ("begun", CheckpointError, "contains no checkpoint. Pass a checkpoint"),
        (work.parent, CheckpointError, "contains no checkpoint, but there are some in .*tiny"),
        ("checkpoint_best.pth", CheckpointError, "checkpoint_best.pth: truncated.*Use another copy of the file"),
        ("other.pt", BuildError, "does not contain a CLIP"),
        ("clip:ViT-B32", RegistryError, "Did you mean 'clip:ViT-B/32'"),
        ("ViT-B/32", CheckpointError, "Did you mean 'clip:ViT-B/32'"),
        ("clip:ViT-B/32:scratch", BuildError, "has no trained weights"),
        ("clip:ViT-B/32", BuildError, "Connect to the hub"),
    ]
    for source, kind, message in cases:
        with pytest.raises(kind, match=message) as error:
            clipzoo.load(source)
        assert "\n" not in str(error.value), source


def test_arguments_that_make_no_sense_are_refused(work):
    with pytest.raises(ConfigError, match="precision: 'fp8' is not supported.*Allowed: auto, fp32"):
        clipzoo.load(work, precision="fp8")
    with pytest.raises(ConfigError, match="quick_gelu: .*records its own activation"):
        clipzoo.load(work, quick_gelu=True)
    with pytest.raises(BuildError, match="no device 'cuda:7'"):
        clipzoo.load(work, device="cuda:7")


def test_weights_of_another_model_are_refused(config_of, tmp_path):
    path, _ = saved(tmp_path / "x.pth", config_of())
    content = checkpoint.read(path)
    del content["model"]["logit_scale"]
    checkpoint.write(path, content)
    with pytest.raises(CheckpointError, match="x.pth: the weights belong to another model .*logit_scale"):
        clipzoo.load(path)
    checkpoint.write(path, {**content, "config": {**content["config"], "model": {**content["config"]["model"], "new": 1}}})
    with pytest.raises(CheckpointError, match="x.pth: its model cannot be rebuilt .*'new'"):
        clipzoo.load(path)


def test_a_model_without_text_side_is_refused(work):
    from clipzoo.inference.clip import LoadedCLIP
    from clipzoo.models.base import Model

    class Classifier(Model):
        preprocessing = clipzoo.load(work).model.preprocessing

    with pytest.raises(BuildError, match="x: Classifier has no text side"):
        LoadedCLIP(restore.Restored(Classifier(), "x"))


def test_pairs_have_no_classes_of_their_own(config_of, tmp_path, files):
    path, _ = saved(tmp_path / "x.pth", config_of(), classes=[], class_captions=[])
    loaded = clipzoo.load(path)
    with pytest.raises(DataError, match="has no classes of its own"):
        loaded.classify(files)
    assert loaded.classify(files, ["圆", "方块"]).probabilities.shape == (3, 2)


# --- published weights --------------------------------------------------------------------------------------------------------------------


@pytest.mark.fast_cases(1)
@pytest.mark.parametrize("vision", ["vit", "resnet"])
def test_weights_of_a_whole_clip_give_the_reference_features(tmp_path, vision, files):
    import open_clip

    net = clip_files.open_clip_model(vision)
    with torch.no_grad():
        net.logit_scale.fill_(3.0)
    torch.save(net.state_dict(), tmp_path / "clip.pt")
    with pytest.raises(BuildError, match="does not define the activation"):
        clipzoo.load(tmp_path / "clip.pt")
    loaded = clipzoo.load(tmp_path / "clip.pt", quick_gelu=False)
    assert abs(loaded.temperature - np.exp(-3.0)) < 1e-6 and loaded.precision == "fp32" and loaded.classes == ()
    images = torch.stack([loaded.preprocess(Image.open(path)) for path in files])
    with torch.no_grad():
        image_ND = net.encode_image(images, normalize=True)
        text_MD = net.encode_text(open_clip.tokenize(clip_files.SENTENCES), normalize=True)
    torch.testing.assert_close(loaded.encode_image(files), image_ND, atol=1e-4, rtol=0)
    with pytest.warns(UserWarning, match="77 fit"):
        found = loaded.encode_text(clip_files.SENTENCES)
    torch.testing.assert_close(found, text_MD, atol=1e-4, rtol=0)
    expected = (image_ND @ text_MD[:3].T * np.exp(3.0)).softmax(dim=1)
    torch.testing.assert_close(loaded.classify(files, clip_files.SENTENCES[:3]).probabilities, expected, atol=1e-4, rtol=0)


def test_a_folder_of_transformers(tmp_path, files):
    from transformers import CLIPImageProcessor

    net = clip_files.transformers_clip()
    net.save_pretrained(tmp_path / "clip")
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    CLIPImageProcessor(**size, image_mean=[0.5, 0.4, 0.3]).save_pretrained(tmp_path / "clip")
    loaded = clipzoo.load(tmp_path / "clip")
    assert loaded.preprocess.preprocessing.mean == (0.5, 0.4, 0.3) and loaded.preprocess.preprocessing.fit == "crop"
    with torch.no_grad():
        images = torch.stack([loaded.preprocess(Image.open(path)) for path in files])
        expected = clip_files.output_of(net.get_image_features(pixel_values=images))
    torch.testing.assert_close(loaded.encode_image(files), F.normalize(expected, dim=-1), atol=1e-4, rtol=0)


def test_chinese_clip(tmp_path):
    size = len(clip_files.vocabulary_text().splitlines())
    net = clip_files.ChineseCLIP(size)
    torch.save({"state_dict": {f"module.{name}": value for name, value in net.state_dict().items()}}, tmp_path / "cn.pt")
    (tmp_path / "vocab.txt").write_text(clip_files.vocabulary_text(), encoding="utf-8")
    loaded = clipzoo.load(tmp_path / "cn.pt")
    assert abs(loaded.temperature - np.exp(-3.5)) < 1e-6
    tokens = loaded.tokenizer(clip_files.CHINESE)
    mask = (torch.arange(tokens.ids.shape[1])[None, :] < tokens.lengths[:, None]).long()
    with torch.no_grad():
        expected = F.normalize(net.eval().encode_text(tokens.ids, mask), dim=-1)
    torch.testing.assert_close(loaded.encode_text(clip_files.CHINESE), expected, atol=1e-4, rtol=0)


def test_a_folder_of_open_clip_with_its_own_preprocessing(tmp_path, files):
    net = clip_files.open_clip_model(quick_gelu=True)
    text = {key: value for key, value in clip_files.TEXT.items()}
    config = {"embed_dim": clip_files.EMBED_DIM, "vision_cfg": clip_files.VISION["vit"], "text_cfg": text, "quick_gelu": True}
    preprocess = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2], "interpolation": "bilinear", "resize_mode": "squash"}
    clip_files.save_open_clip_folder(net, tmp_path / "clip", config, preprocess)
    loaded = clipzoo.load(tmp_path / "clip")
    said = loaded.preprocess.preprocessing
    assert (said.mean, said.interpolation, said.fit) == ((0.5, 0.4, 0.3), "bilinear", "squash")
    with torch.no_grad():
        expected = net.encode_image(torch.stack([loaded.preprocess(Image.open(path)) for path in files]), normalize=True)
    torch.testing.assert_close(loaded.encode_image(files), expected, atol=1e-4, rtol=0)
    with pytest.raises(ConfigError, match="records its own activation"):
        clipzoo.load(tmp_path / "clip", quick_gelu=False)
