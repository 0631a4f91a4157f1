"""Small CLIPs with random weights, saved by the reference libraries in every format, and their features."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import open_clip
import torch
from open_clip.model import CLIP as OpenCLIP
from open_clip.model import _build_text_tower, _build_vision_tower
from safetensors.torch import save_file
from torch import nn

from clipzoo.models.export.open_clip import model_config

EMBED_DIM = 24
VISION = {
    "vit": {"layers": 2, "width": 128, "patch_size": 8, "image_size": 32},  # two heads
    "resnet": {"layers": [1, 2, 1, 1], "width": 8, "image_size": 64},
}
TEXT = {"width": 64, "heads": 1, "layers": 2, "vocab_size": 49408, "context_length": 77}
SENTENCES = ["a photo of a cat", "two dogs, and a bird", "!", "X-ray of the left hip " * 12]
CHINESE = ["左侧髋关节", "一张胸部的X线片", "骨"]
HF_VISION = {
    "hidden_size": 128,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
}
HF_TEXT = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 49408}
HF_BERT = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 1}


def scatter(model: nn.Module, seed: int = 0) -> nn.Module:
    """Weights and running statistics of a size at which every one of them matters, in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)

    def noise(tensor: torch.Tensor) -> torch.Tensor:
        return torch.randn(tensor.shape, generator=generator)

    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if not tensor.is_floating_point() or "logit" in name:
                continue
            if tensor.ndim >= 2:
                small = 0.05 if "attnpool" in name else 0.5  # or a ResNet's features would be much the same for all images
                tensor.copy_(noise(tensor) * (small if "embedding" in name else tensor[0].numel() ** -0.5))
            elif name.endswith("running_var"):
                tensor.copy_(0.3 + 0.3 * noise(tensor).abs())
            else:
                tensor.copy_((1 if name.endswith("weight") else 0) + 0.3 * noise(tensor))
    return model.eval()


def open_clip_model(vision: str = "vit", quick_gelu: bool = False, kind: type = OpenCLIP, **text) -> nn.Module:
    return scatter(kind(EMBED_DIM, VISION[vision], {**TEXT, **text}, quick_gelu=quick_gelu))


def save_script(model: nn.Module, path: Path) -> None:
    """As OpenAI published its models: traced, in half precision, with three numbers among the tensors."""
    image_size = model.visual.image_size
    image_size = image_size[0] if isinstance(image_size, tuple) else image_size
    images, ids = torch.zeros(1, 3, image_size, image_size), torch.zeros(1, 77, dtype=torch.int64)
    numbers = {"input_resolution": image_size, "context_length": model.context_length, "vocab_size": model.vocab_size}
    for name, number in numbers.items():
        if hasattr(model, name):
            delattr(model, name)
        model.register_buffer(name, torch.tensor(number))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script = torch.jit.trace_module(model, {"encode_image": images, "encode_text": ids}, check_trace=False)
        script.half().save(str(path))


def save_open_clip_folder(model: nn.Module, folder: Path, config: dict, preprocess: dict | None = None) -> None:
    folder.mkdir()
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    content = {"model_cfg": config, **({} if preprocess is None else {"preprocess_cfg": preprocess})}
    (folder / "open_clip_config.json").write_text(json.dumps(content), encoding="utf-8")


def transformers_clip(hidden_act: str = "quick_gelu", **text) -> nn.Module:
    from transformers import CLIPConfig, CLIPModel

    config = CLIPConfig(
        text_config={**HF_TEXT, "hidden_act": hidden_act, **text},
        vision_config={**HF_VISION, "hidden_act": hidden_act},
        projection_dim=EMBED_DIM,
    )
    return scatter(CLIPModel(config))


def transformers_chinese_clip(vocab_size: int) -> nn.Module:
    from transformers import ChineseCLIPConfig, ChineseCLIPModel

    config = ChineseCLIPConfig(text_config={**HF_BERT, "vocab_size": vocab_size}, vision_config=HF_VISION, projection_dim=EMBED_DIM)
    return scatter(ChineseCLIPModel(config))


class ChineseCLIP(nn.Module):
    """The original Chinese-CLIP: open_clip's image tower, whose names it shares, and a BERT read at its first token."""

    def __init__(self, vocab_size: int, vision: str = "vit"):
        super().__init__()
        from transformers import BertConfig, BertModel

        self.visual = open_clip_model(vision, quick_gelu=True).visual
        self.bert = BertModel(BertConfig(vocab_size=vocab_size, **HF_BERT))
        self.text_projection = nn.Parameter(torch.empty(HF_BERT["hidden_size"], EMBED_DIM))
        self.logit_scale = nn.Parameter(torch.tensor(3.5))
        scatter(self)

    def encode_image(self, images):
        return self.visual(images)

    def encode_text(self, ids, mask):
        return self.bert(ids, attention_mask=mask).last_hidden_state[:, 0] @ self.text_projection


def vocabulary_text() -> str:
    """A BERT's ``vocab.txt`` for the characters of the sentences here."""
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted(set("".join(CHINESE).lower())), "##x", "##线"]
    return "\n".join(tokens) + "\n"


def pictures(size: int) -> torch.Tensor:
    return torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(1))


def image_features(weights) -> torch.Tensor:
    """Of the image tower, rebuilt from what ``CLIPWeights`` says alone."""
    config = model_config(weights)
    visual = _build_vision_tower(weights.embed_dim, config["vision_cfg"], quick_gelu=bool(weights.quick_gelu))
    visual.load_state_dict(weights.visual)
    with torch.no_grad():
        return visual.eval()(pictures(weights.image_size))


def text_features(weights, sentences: list[str] = SENTENCES) -> torch.Tensor:
    """Of CLIP's text tower, likewise."""
    tower = _build_text_tower(weights.embed_dim, model_config(weights)["text_cfg"], quick_gelu=bool(weights.quick_gelu))
    tower.load_state_dict(weights.text)
    with torch.no_grad():
        return tower.eval()(open_clip.tokenize(sentences, weights.context_length))


def bert_features(weights, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Of a BERT text tower, likewise."""
    from transformers import BertConfig, BertModel

    bert = BertModel(BertConfig(**weights.text_config), add_pooling_layer=False)
    bert.load_state_dict({key: value for key, value in weights.text.items() if key != "text_projection"})
    with torch.no_grad():
        return bert.eval()(ids, attention_mask=mask).last_hidden_state[:, 0] @ weights.text["text_projection"]


def ids_and_mask(vocab_size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Three token sequences of different lengths."""
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(5, vocab_size, (3, 9), generator=generator)
    mask = torch.arange(9)[None, :] < torch.tensor([[9], [4], [6]])
    return torch.where(mask, ids, 0), mask.long()


def output_of(features) -> torch.Tensor:
    """Since transformers 5 ``get_image_features`` returns an object with the features inside."""
    return getattr(features, "pooler_output", features)
