"""Reading of Chinese-CLIP's checkpoints: CLIP's image tower, and RoBERTa-wwm, a BERT."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from clipzoo.errors import BuildError, DataError, shortened
from clipzoo.files import read_text
from clipzoo.models.layout.clip_weights import CHINESE_CONTEXT, OPENAI_MEAN, OPENAI_STD, CLIPWeights
from clipzoo.models.layout.sizes import bert_sizes, check_joint, scalars, vision_sizes
from clipzoo.structures import Preprocessing

# Ignored on purpose: the pooling layer, which Chinese-CLIP does not use, and the position ids of older files.
_IGNORED = ("bert.pooler.", "bert.embeddings.position_ids")


def from_state(state: Mapping[str, Tensor], path: Path, where: str) -> CLIPWeights:
    """Convert a state dict with Chinese-CLIP's names.

    The activation (QuickGELU in the image tower, GELU in the BERT), the preprocessing and the limit of 52 tokens are those of all published
    models, as the files do not contain them. The vocabulary is read from a ``vocab.txt`` in the same folder.
    """
    flash = [key for key in state if ".Wqkv." in key]
    if flash:
        raise BuildError(
            f"{where} was saved with flash attention, which uses different tensor names ({flash[0]} and {len(flash) - 1} more). "
            "Convert it with cn_clip's convert_state_dict, or save it from a run without --use-flash-attention"
        )
    visual = {key.removeprefix("visual."): value for key, value in state.items() if key.startswith("visual.")}
    text = {key.removeprefix("bert."): value for key, value in state.items() if key.startswith("bert.") and not key.startswith(_IGNORED)}
    if "text_projection" in state:
        text["text_projection"] = state["text_projection"]
    rest = [key for key in state if not key.startswith(("visual.", "bert.")) and key not in ("text_projection", "logit_scale")]
    if rest:
        raise BuildError(f"{where}: {len(rest)} tensors belong to no part of a Chinese-CLIP: {shortened(rest, 4)}")
    sizes = {**vision_sizes(visual, where), **bert_sizes(text, where)}
    check_joint(sizes["embed_dim"], text, where)
    positions = len(text["embeddings.position_embeddings.weight"])
    return CLIPWeights(
        format="chinese-clip",
        visual=visual,
        text=text,
        text_kind="bert",
        text_config=_config(text, sizes, positions),
        files=_vocabulary(path.parent / "vocab.txt", sizes["vocab_size"], where),
        logit_scale=scalars(state, where)[0],
        quick_gelu=True,
        preprocessing=Preprocessing(sizes["image_size"], OPENAI_MEAN, OPENAI_STD, "bicubic", "squash"),
        context_length=min(CHINESE_CONTEXT, positions),
        **sizes,
    )


def _config(text: Mapping[str, Tensor], sizes: dict, positions: int) -> dict:
    """Of ``BertConfig``; what no tensor says is that of the published models."""
    return {
        "vocab_size": sizes["vocab_size"],
        "hidden_size": sizes["text_width"],
        "num_hidden_layers": sizes["text_layers"],
        "num_attention_heads": sizes["text_heads"],
        "intermediate_size": sizes["text_mlp"],
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "max_position_embeddings": positions,
        "type_vocab_size": len(text["embeddings.token_type_embeddings.weight"]),
        "layer_norm_eps": 1e-12,
        "pad_token_id": 0,
    }


def _vocabulary(path: Path, vocab_size: int, where: str) -> dict[str, str]:
    """The tokenizer's files if the vocabulary is in the weights' folder; otherwise empty."""
    if not path.is_file():
        return {}
    try:
        text = read_text(path)
    except DataError as error:
        raise BuildError(f"{where}: {error}") from error
    count = len(text.replace("\r\n", "\n").rstrip("\n").split("\n"))
    if count != vocab_size:
        raise BuildError(f"{where}: {path.name} in its folder has {count} tokens, but the weights were trained with {vocab_size}")
    config = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": CHINESE_CONTEXT}
    return {"vocab.txt": text, "tokenizer_config.json": json.dumps(config)}
