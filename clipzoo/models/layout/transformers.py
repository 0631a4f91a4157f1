"""Parameter names of transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


TOKENIZER_FILES = ("vocab.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
# Names in one transformer block, transformers' and OpenAI's; OpenAI's have one tensor for the three attention projections.
BLOCK = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
VISION = {
    "vision_model.embeddings.class_embedding": "class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "positional_embedding",
    **{f"vision_model.pre_layrnorm.{kind}": f"ln_pre.{kind}" for kind in ("weight", "bias")},  # the typo is transformers' own
    **{f"vision_model.post_layernorm.{kind}": f"ln_post.{kind}" for kind in ("weight", "bias")},
}
TEXT = {
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    **{f"text_model.final_layer_norm.{kind}": f"ln_final.{kind}" for kind in ("weight", "bias")},
}
_BERT_KEYS = (
    *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act"),
    *("hidden_dropout_prob", "attention_probs_dropout_prob", "max_position_embeddings", "type_vocab_size"),
    *("layer_norm_eps", "pad_token_id"),
)


def bert_config(config: dict) -> dict:
    """The fields of a text tower's config that ``BertConfig`` needs to build the same network."""
    return {name: config[name] for name in _BERT_KEYS if name in config}
