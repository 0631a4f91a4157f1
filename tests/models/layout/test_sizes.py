"""The layout of every plain CLIP that open_clip can make, and the heads that no tensor shows."""

import open_clip
import pytest
import torch
from clip_files import EMBED_DIM, HF_BERT, open_clip_model
from open_clip.model import _build_text_tower, _build_vision_tower

from clipzoo.errors import BuildError
from clipzoo.models.layout import sizes as layout
from clipzoo.models.layout.open_clip import check_options


def plain_models() -> list[str]:
    """open_clip's own architectures that need nothing but a plain CLIP."""
    found = []
    for name in open_clip.list_models():
        config = open_clip.get_model_config(name)
        try:
            check_options(config, config["vision_cfg"], config["text_cfg"], name)
        except BuildError:
            continue
        if config["text_cfg"].get("vocab_size", 49408) == 49408:
            found.append(name)
    return found


PLAIN = plain_models()


def of_different_sizes() -> list[str]:
    """One of those that differ in nothing that decides about heads."""
    configs = {name: open_clip.get_model_config(name) for name in reversed(PLAIN)}
    sizes = {(str(c["vision_cfg"]["layers"]), c["vision_cfg"]["width"], c["text_cfg"].get("width")): name for name, c in configs.items()}
    return sorted(sizes.values())


def test_most_of_open_clips_own_models_are_plain():
    assert {"ViT-B-32", "ViT-B-16", "ViT-L-14", "ViT-H-14", "ViT-g-14", "ViT-bigG-14", "RN50", "RN101", "RN50x64"} <= set(PLAIN)
    assert not {"coca_ViT-B-32", "ViT-H-14-CLIPA", "ViT-B-16-SigLIP", "xlm-roberta-base-ViT-B-32", "convnext_base"} & set(PLAIN)


@pytest.mark.fast_cases(5)
@pytest.mark.parametrize("name", of_different_sizes())
def test_sizes_and_heads_of_open_clips_own_models(name):
    """On the meta device, where a network of billions of weights takes no memory."""
    config = open_clip.get_model_config(name)
    with torch.device("meta"):
        text = _build_text_tower(config["embed_dim"], dict(config["text_cfg"]))
        state = text.state_dict()
        sizes = layout.text_sizes(state, name)
        assert sizes["text_heads"] == text.transformer.resblocks[0].attn.num_heads
        cfg = config["vision_cfg"]
        if isinstance(cfg["layers"], list) and cfg["width"] > 64:
            cfg = {**cfg, "layers": [1, 1, 1, 1]}  # the largest ResNets take seconds to make
        visual = _build_vision_tower(config["embed_dim"], dict(cfg))
        sizes = layout.vision_sizes(visual.state_dict(), name)
    heads = visual.attnpool.num_heads if sizes["vision_kind"] == "resnet" else visual.transformer.resblocks[0].attn.num_heads
    assert sizes["vision_heads"] == heads
    assert (sizes["image_size"], sizes["embed_dim"]) == (cfg["image_size"], config["embed_dim"])


@pytest.mark.parametrize("vision", ["vit", "resnet"])
def test_every_missing_unexpected_and_misshapen_tensor_is_found(vision):
    """Against the tensors of open_clip's whole model, towers and all."""
    model = open_clip_model(vision)
    visual = model.visual.state_dict()
    text = {key: value for key, value in model.state_dict().items() if not key.startswith(("visual.", "logit"))}
    for sizes_of, state in ((layout.vision_sizes, visual), (layout.text_sizes, text)):
        sizes_of(state, "file")
        last = [name for name in state if state[name].ndim][-1]
        for broken in ({n: v for n, v in state.items() if n != last}, {**state, "more": state[last]}, {**state, last: state[last][:1]}):
            with pytest.raises(BuildError, match=r"(missing: .*|unexpected: more|of another shape: .*)"):
                sizes_of(broken, "file")


def test_a_bert_is_compared_with_transformers_own():
    from transformers import BertConfig, BertModel

    bert = BertModel(BertConfig(vocab_size=30, **HF_BERT), add_pooling_layer=False)
    state = {**bert.state_dict(), "text_projection": torch.zeros(64, EMBED_DIM)}
    sizes = layout.bert_sizes(state, "file")
    assert (sizes["text_width"], sizes["text_layers"], sizes["text_mlp"], sizes["vocab_size"]) == (64, 2, 128, 30)
    with pytest.raises(BuildError, match=r"missing: encoder.layer.1.output.dense.bias"):
        layout.bert_sizes({n: v for n, v in state.items() if n != "encoder.layer.1.output.dense.bias"}, "file")
