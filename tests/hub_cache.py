"""A local cache laid out as the hub's, with small random models that the reference libraries wrote into it."""

import json
from pathlib import Path

import pytest
import torch
from small_towers import bert_folder

from clipzoo.models.text_encoders.tokenizer import character_vocabulary

COMMIT = "0" * 40
CHARACTERS = len(character_vocabulary())
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
VISION = {**SMALL, "hidden_size": 48, "num_attention_heads": 3, "image_size": 32, "patch_size": 8}


def put(cache: Path, repository: str) -> Path:
    """The folder of a repository in the cache of the hub."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(COMMIT)
    (folder / "snapshots" / COMMIT).mkdir(parents=True)
    return folder / "snapshots" / COMMIT


def without_file(folder: Path, *names: str) -> None:
    """The hub was asked for these files of a repository, and has none."""
    for name in names:
        place = folder.parents[1] / ".no_exist" / folder.name / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()


def shaken(model: torch.nn.Module) -> torch.nn.Module:
    """The model with weights so large that each of them matters."""
    torch.manual_seed(5)
    for parameter in model.parameters():
        parameter.data = torch.randn_like(parameter) * (0.2 if parameter.ndim > 1 else 0.5)
    return model.eval()


def of_transformers(kind: str, **config: object) -> torch.nn.Module:
    """A random model of transformers; the test is skipped if the installed version does not have this kind yet."""
    import transformers

    if not hasattr(transformers, f"{kind}Model"):
        pytest.skip(f"transformers {transformers.__version__} has no {kind}Model")
    return getattr(transformers, f"{kind}Model")(getattr(transformers, f"{kind}Config")(**config))


def clip(folder: Path, kind: str = "CLIP"):
    """``CLIPModel`` with a tokenizer of byte pairs, as openai/clip-vit-base-patch32 has it, or another ``kind`` with its parts."""
    import transformers

    from clipzoo.models.layout.byte_pairs import tokenizer_files

    for name, text in tokenizer_files(20).items():
        (folder / name).write_text(text, encoding="utf-8")
    text = {**SMALL, "vocab_size": 49408, "max_position_embeddings": 20, "eos_token_id": 49407}
    model = shaken(of_transformers(kind, text_config=text, vision_config=VISION, projection_dim=24))
    model.logit_scale.data.fill_(3.5)
    model.save_pretrained(folder)
    transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32, image_mean=[0.4, 0.5, 0.6]).save_pretrained(folder)
    return model


def chinese_clip(folder: Path):
    """``ChineseCLIPModel``, as OFA-Sys/chinese-clip-vit-base-patch16 has it, with a vocabulary of characters."""
    from transformers import ChineseCLIPConfig, ChineseCLIPImageProcessor, ChineseCLIPModel

    (folder / "vocab.txt").write_text("\n".join(character_vocabulary()), encoding="utf-8")
    text = {**SMALL, "vocab_size": CHARACTERS, "max_position_embeddings": 70}
    model = shaken(ChineseCLIPModel(ChineseCLIPConfig(text_config=text, vision_config=VISION, projection_dim=24)))
    model.logit_scale.data.fill_(3.0)
    model.save_pretrained(folder)
    ChineseCLIPImageProcessor(size={"height": 32, "width": 32}, do_center_crop=False).save_pretrained(folder)
    return model


def siglip(folder: Path, image_mean: float = 0.5):
    """``SiglipModel``, without a tokenizer."""
    from transformers import SiglipConfig, SiglipImageProcessor, SiglipModel

    # The head of the text tower is as wide as the image tower, as in the published models.
    text = {**SMALL, "hidden_size": 48, "num_attention_heads": 3, "vocab_size": 600, "max_position_embeddings": 16, "projection_size": 48}
    model = shaken(SiglipModel(SiglipConfig(text_config=text, vision_config=VISION)))
    model.logit_scale.data.fill_(2.5)
    model.logit_bias.data.fill_(-7.0)
    model.save_pretrained(folder)
    SiglipImageProcessor(size={"height": 32, "width": 32}, image_mean=[image_mean] * 3).save_pretrained(folder)
    return model


def sentence_pieces(folder: Path) -> None:
    """The tokenizer of SigLIP: a vocabulary of SentencePiece, learned from these sentences."""
    import sentencepiece
    from transformers import SiglipTokenizer

    text = folder / "text.txt"
    text.write_text("\n".join([*SENTENCES, *(f"{word} {other}" for word in WORDS for other in WORDS)]), encoding="utf-8")
    options = {"vocab_size": 90, "pad_id": -1, "bos_id": -1, "eos_id": 1, "unk_id": 2, "hard_vocab_limit": False, "minloglevel": 2}
    sentencepiece.SentencePieceTrainer.train(input=str(text), model_prefix=str(folder / "spiece"), **options)
    text.unlink()
    (folder / "spiece.vocab").unlink()
    SiglipTokenizer(str(folder / "spiece.model"), model_max_length=16).save_pretrained(folder)


def gemma_tokenizer(folder: Path) -> None:
    """The tokenizer of SigLIP 2: Gemma's byte pairs, here without merges, which keep upper and lower case apart."""
    from transformers import GemmaTokenizerFast

    letters = [chr(code) for code in range(33, 127)] + [f"<0x{code:02X}>" for code in range(256)]
    tokens = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "\u2581", *letters]
    tokenizer = GemmaTokenizerFast(
        vocab={token: number for number, token in enumerate(tokens)}, merges=[], add_bos_token=False, add_eos_token=True
    )
    tokenizer.padding_side = "right"
    tokenizer.save_pretrained(folder)


WORDS = ("cat", "dog", "photo", "hip", "joint", "film", "left", "right", "above", "below")
SENTENCES = ["a photo of a cat", "Two, dogs!", "a", "人工髋关节置换术", "word " * 30]


def image_model(folder: Path, kind: str, **config: object):
    """A network of transformers without a text tower, and the file of an image processor that crops 32 of 36 pixels."""
    import transformers

    model = shaken(of_transformers(kind, **config))
    model.save_pretrained(folder)
    sizes = {"size": {"shortest_edge": 36}, "crop_size": 32, "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.2, 0.3]}
    transformers.BitImageProcessor(**sizes).save_pretrained(folder)
    return model


def open_clip_model(model_cfg: dict):
    """A model of open_clip with this configuration."""
    import open_clip
    from open_clip.factory import _MODEL_CONFIGS

    _MODEL_CONFIGS["pushed"] = model_cfg
    try:
        model = shaken(open_clip.create_model("pushed", pretrained_text=False))
    finally:
        del _MODEL_CONFIGS["pushed"]
    model.logit_scale.data.fill_(4.25)
    return model


def save_open_clip(model: torch.nn.Module, folder: Path, model_cfg: dict) -> None:
    """Save a model as open_clip's trainer pushes it to the hub."""
    torch.save(model.state_dict(), folder / "open_clip_pytorch_model.bin")
    preprocess = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.2], "interpolation": "bicubic", "resize_mode": "shortest"}
    config = {"model_cfg": model_cfg, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(config), encoding="utf-8")


def bert(folder: Path) -> None:
    """A BERT with weights and tokenizer."""
    from transformers import BertConfig, BertModel

    BertModel(BertConfig.from_pretrained(bert_folder(folder))).save_pretrained(folder)


def timm_repository(folder: Path, architecture: str, **arguments: object):
    """A model of timm, saved as its function for the hub saves it."""
    import timm
    from timm.models import save_for_hf

    model = shaken(timm.create_model(architecture, num_classes=3, **arguments))
    save_for_hf(model, folder, model_config={"label_names": ["a", "b", "c"]}, model_args=arguments or None)
    return model
