"""Export to open_clip of a CLIP with a timm network or a Hugging Face encoder as a tower, for which open_clip has towers of its own."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clipzoo.errors import BuildError, first_line
from clipzoo.files import new_folder, write_json
from clipzoo.models.export.folder import write_safetensors
from clipzoo.models.export.open_clip import preprocess_config, text_config, vision_config
from clipzoo.models.layout.from_model import activation, image_tower, linear, logit_bias, merged, refuse_bias, text_tower
from clipzoo.models.layout.open_clip import CONFIG, TOWER_FOLDER, WEIGHTS, OpenCLIPTower
from clipzoo.models.weights.hf_files import write_files
from clipzoo.structures import Tokens

if TYPE_CHECKING:
    from clipzoo.models.clip import CLIP

_TOLERANCE = 1e-5
_SENTENCES = ["一张左侧髋关节的X线片", "a photo of a cat", "!"]


def write_open_clip_towers(model: CLIP, path: str | Path, where: str = "export", *, name: str | None = None) -> None:
    """Write a folder for ``open_clip.create_model_and_transforms('local-dir:<path>')``, if open_clip computes the model's features.

    open_clip looks up a Hugging Face encoder by the name ``text_cfg.hf_model_name``, also for a local folder. The folder has its
    ``config.json``, and names itself; whoever moves it must change the name.

    Args:
        model: A CLIP with linear projections.
        path: New folder.
        where: Start of a message.
        name: Repository of the hub for which the folder is meant, as ``hf_model_name``; ``None`` for the folder itself.

    Raises:
        BuildError: open_clip has no equivalent towers, or computes other features.
        DataError: The folder exists or cannot be written.
    """
    path, model = Path(path), merged(model)
    if path.suffix in (".safetensors", ".pt", ".pth", ".bin", ".json", ".zip"):
        raise BuildError(f"{path}: open_clip needs a folder for these towers: use a name without an extension")
    image, text = _image(model, where), _text(model, where)
    state = {f"{side}.{key}": value for side, tower in (("visual", image), ("text", text)) for key, value in tower.state.items()}
    state["logit_scale"] = model.logit_scale.detach().cpu()
    config = {"embed_dim": model.embed_dim, "vision_cfg": image.config, "text_cfg": text.config, "custom_text": True}
    config["quick_gelu"] = activation(model, where)
    bias = logit_bias(model)
    if bias is not None:
        state["logit_bias"], config["init_logit_bias"] = torch.tensor(bias), bias
    with new_folder(path) as folder:
        write_files(folder, text.files, where)
        _check(model, _named(config, str(folder)), state, where)
        write_safetensors(folder / WEIGHTS[0], state)
        config = _named(config, name or str(path.resolve()))
        write_json(folder / CONFIG, {"model_cfg": config, "preprocess_cfg": preprocess_config(model.preprocessing)})


def wraps_towers(model: nn.Module, where: str) -> bool:
    """Whether a tower of a CLIP is one that open_clip wraps, rather than CLIP's own.

    Raises:
        BuildError: open_clip cannot build it.
    """
    towers = getattr(model, "image_encoder", None), getattr(model, "text_encoder", None)
    if None in towers:
        return False
    eyes = [torch.eye(tower.num_features, dtype=torch.float64) for tower in towers]
    return towers[0].open_clip_layout(eyes[0], None, where) is not None or towers[1].open_clip_layout(eyes[1], where) is not None


def _image(model: CLIP, where: str) -> OpenCLIPTower:
    tower = model.image_encoder
    matrix_ED, bias_E = linear(model.image_projection, f"{where}: model.image_projection")
    found = tower.open_clip_layout(_or_eye(matrix_ED, tower.num_features), bias_E, where)
    if found is not None:
        return found
    visual, sizes = image_tower(model, where)
    return OpenCLIPTower(visual, vision_config(SimpleNamespace(**sizes)))


def _text(model: CLIP, where: str) -> OpenCLIPTower:
    tower = model.text_encoder
    matrix_ED, bias_E = linear(model.text_projection, f"{where}: model.text_projection")
    refuse_bias(bias_E, f"{where}: model.text_projection")
    found = tower.open_clip_layout(_or_eye(matrix_ED, tower.num_features), where)
    if found is not None:
        return found
    state, sizes = text_tower(model, where)
    return OpenCLIPTower(state, text_config(SimpleNamespace(**sizes, context_length=tower.context_length)))


def _or_eye(matrix_ED: Tensor | None, width: int) -> Tensor:
    return torch.eye(width, dtype=torch.float64) if matrix_ED is None else matrix_ED


def _named(config: dict, name: str) -> dict:
    """The configuration with the name by which open_clip finds encoder and tokenizer; unchanged without a Hugging Face encoder."""
    text = config["text_cfg"]
    return {**config, "text_cfg": {**text, **{key: name for key in TOWER_FOLDER if text.get(key)}}}


@torch.no_grad()
def _check(model: CLIP, config: dict, state: dict[str, Tensor], where: str) -> None:
    """Build the model in open_clip, load the tensors strictly, and compare features of noise and of sentences.

    Raises:
        BuildError: open_clip cannot build it, or computes other features.
    """
    from open_clip.model import CustomTextCLIP

    try:
        other = CustomTextCLIP(**{key: value for key, value in config.items() if key != "custom_text"}).eval()
        other.load_state_dict(state)
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError, OSError, AssertionError) as error:
        raise BuildError(f"{where}: open_clip cannot build this model ({first_line(error)})") from error
    size = model.preprocessing.size
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    tokens = model.tokenizer(_SENTENCES)
    pairs = {"image": (F.normalize(other.encode_image(images), dim=-1), model.eval().encode_image(images))}
    pairs["text"] = F.normalize(other.encode_text(_padded(tokens, other)), dim=-1), model.encode_text(tokens)
    for side, (found, expected) in pairs.items():
        largest = float((found - expected).abs().max())
        if not largest <= _TOLERANCE:
            by = f"{largest:.2g}, more than {_TOLERANCE:g}"
            raise BuildError(f"{where}: open_clip's {side} features deviate by {by}. Use the ONNX format")


def _padded(tokens: Tokens, model: nn.Module) -> Tensor:
    """``[N, L]`` ids with open_clip's padding: that of the encoder, or 0 up to the whole context of CLIP's own transformer."""
    config = getattr(model.text, "config", None)
    places = torch.arange(tokens.ids.shape[1])[None, :] < tokens.lengths[:, None]
    ids = torch.where(places, tokens.ids, 0 if config is None else config.pad_token_id)
    return ids if config is not None else F.pad(ids, (0, model.context_length - ids.shape[1]))
