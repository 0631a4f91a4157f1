"""The text tower of any open_clip model, with its own tokenizer."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from clipzoo.config.arguments import FilePath, Whole
from clipzoo.models.layout.json_file import read_object
from clipzoo.models.layout.open_clip import TOWER_FOLDER, OpenCLIPTower, check_options, is_plain, unprojected
from clipzoo.models.layout.states import copied, load_strictly
from clipzoo.models.lora import Adapters
from clipzoo.models.recompute import recompute_layers
from clipzoo.models.text_encoders.base import TextEncoder, padding_mask
from clipzoo.models.text_encoders.clip_text import clip_text_layout
from clipzoo.models.text_encoders.identity import hugging_face_settings, identity_of
from clipzoo.models.text_encoders.tokenizer import ONE_AT_A_TIME, CLIPTokenizer, languages_of, portable_of, unknown_of
from clipzoo.models.tower import groups_by_layer
from clipzoo.models.weights.hf_files import files_of, opened
from clipzoo.models.weights.hugging_face import check_tokenizer, read_config, reading, tokenizer_is_cached
from clipzoo.models.weights.open_clip_model import OpenCLIPModel, building, open_clip_model
from clipzoo.registries import TEXT_ENCODERS
from clipzoo.structures import Tokens

if TYPE_CHECKING:
    from open_clip.tokenizer import HFTokenizer, SimpleTokenizer
    from tokenizers import Tokenizer as FastTokenizer
    from transformers import PreTrainedTokenizerBase


@TEXT_ENCODERS.register_module()
class OpenCLIPText(TextEncoder):
    """An open_clip text tower: open_clip's own transformer, or a Hugging Face encoder with a projection into the joint space.

    Sentences are trimmed only where this is exact: with causal attention and pooling at the end of the text, or with masked padding.
    Other towers (SigLIP's, MobileCLIP's, CoCa's) see their padding, and always receive the whole context, as in training.

    Args:
        name: Model name in open_clip (``'ViT-B-16-SigLIP'``), or ``'hf-hub:'`` and the name of a repository, or a folder with
            ``open_clip_config.json``, weights and tokenizer, and optionally ``config.json`` of a Hugging Face encoder.
        tag: Tag of published weights (``'webli'``), or a local file in open_clip's format; ``None`` for random weights, or the folder's.
        pretrained: ``False`` for random weights, whatever ``name`` and ``tag`` are; a tokenizer on the hub is still required.
        freeze: ``'all'`` freezes the whole tower.
        unfreeze_blocks: Number of last depth groups that are trained; ``None`` leaves the choice to ``freeze``.
        lora: Adapters that are trained instead of the weights: ``rank``, ``alpha`` and ``dropout``; ``None`` for none.
        config: open_clip's model configuration itself; ``name`` is then only a label, and weights are random. Supplied by checkpoints.
        files: Contents of the tokenizer's files, and of ``config.json`` for a Hugging Face encoder, by name. Supplied by checkpoints.

    Raises:
        BuildError: The model or tag does not exist, or weights or tokenizer are unavailable, do not fit, or contradict the configuration.

    Source: Ilharco et al. 2021, open_clip, whose own modules and tokenizers are used; only this tower is built.
    """

    projected = True

    def __init__(
        self,
        name: FilePath,
        tag: FilePath | None = None,
        pretrained: bool = True,
        freeze: Literal["none", "all"] = "none",
        unfreeze_blocks: Whole | None = None,
        lora: Adapters | None = None,
        config: dict | None = None,
        files: dict | None = None,
    ):
        super().__init__(freeze, unfreeze_blocks, lora)
        model = open_clip_model("OpenCLIPText", name, tag, pretrained, config)
        self.name, self.config, self._files = model.name, model.config, files
        self._build(model)
        self.token_table = "net.token_embedding" if self._encoder is None else None
        projection = getattr(self.net, "text_projection", True)
        self.num_features = self.net.width if projection is None else model.config["embed_dim"]
        own = self._tokenizer_of(model)
        self._hugging_face = getattr(own, "tokenizer", None)
        self.tokenizer = OpenCLIPTokenizer(own, self._padding(own))
        self.context_length = self.tokenizer.context_length
        if model.weights is not None:
            where = f"OpenCLIPText({model.origin})"
            state, self.logit_scale, self.logit_bias = model.part("text", where)
            load_strictly(self.net, state, where)
            self.weights, self.space = model.origin, model.space
        self.apply_freeze()

    def forward(self, tokens: Tokens) -> Tensor:
        """``[N, L]`` tokens to ``[N, num_features]`` in the joint space."""
        if self._masked:
            ids = torch.where(padding_mask(tokens), tokens.ids, self.net.config.pad_token_id)  # the encoder's mask depends on it
            features = self.net(ids)
        elif self._causal:
            features = self._read_at_the_end(tokens)
        else:
            features = self.net(tokens.ids)
        return features[0] if isinstance(features, tuple) else features

    def depth_groups(self) -> list[list[str]]:
        """Embeddings, then one group per layer; the final norm and the projection belong to the last layer."""
        layer = r"\.(?:layers?|h|blocks?)\.(\d+)\." if self._encoder is not None else r"resblocks\.(\d+)\."
        return groups_by_layer((name for name, _ in self.named_parameters()), layer, r"embed|cls_emb|\.wte|\.wpe")

    def blueprint(self) -> dict:
        """See ``Tower.blueprint``."""
        if self._files is None and self._hugging_face is not None:
            self._files = files_of(self._hugging_face, None if self._encoder is None else self.net.config)
        text = {**self.config["text_cfg"]}
        if self._files is not None:  # used instead of these two, which may name a local folder
            text |= {key: os.path.basename(text[key]) for key in ("hf_model_name", "hf_tokenizer_name") if text.get(key)}
        files = {} if self._files is None else {"files": self._files}
        return {"pretrained": False, "config": {**self.config, "vision_cfg": {}, "text_cfg": text}, **files}

    def clip_layout(self, where: str) -> tuple[dict[str, Tensor], dict]:
        """See ``TextEncoder.clip_layout``."""
        check_options({}, {}, self.config["text_cfg"], f"{where}: the text tower {self.name}")
        return clip_text_layout(self.net, self.net.transformer.resblocks[0].attn.num_heads, where)

    def open_clip_layout(self, matrix_ED: Tensor, where: str) -> OpenCLIPTower | None:
        """See ``TextEncoder.open_clip_layout``: the tower as it is, unless it is CLIP's own."""
        text = self.config["text_cfg"]
        if is_plain({}, text):
            return None
        unprojected(f"the text tower {self.name}", matrix_ED, where)
        folder = {key: value for key, value in TOWER_FOLDER.items() if text.get(key)}
        return OpenCLIPTower(copied(self.net), {**text, **folder, "hf_model_pretrained": False}, self.blueprint().get("files", {}))

    def checkpoint_gradients(self) -> None:
        """See ``Tower.checkpoint_gradients``."""
        if self._encoder is not None:
            recompute_layers(self._encoder, f"OpenCLIPText {self.name}")
        else:
            self.net.set_grad_checkpointing(True)

    @property
    def _encoder(self) -> nn.Module | None:
        """The Hugging Face encoder inside; ``None`` for open_clip's own transformer."""
        return self.net.transformer if hasattr(self.net, "pooler") else None

    @property
    def _causal(self) -> bool:
        """Is attention causal, and the tower pooled at the last token?"""
        net = self.net
        return self._encoder is None and net.attn_mask is not None and net.cls_emb is None and net.pool_type in ("argmax", "eos")

    @property
    def _masked(self) -> bool:
        return self._encoder is not None and self.tokenizer.padding is not None

    def _padding(self, own: SimpleTokenizer | HFTokenizer) -> int | None:
        """The id of right padding that may be trimmed; ``None`` if it may not."""
        pad = 0 if self._hugging_face is None else self._hugging_face.pad_token_id
        if self._causal:
            return pad
        if self._encoder is not None and self._hugging_face.padding_side == "right" and pad == self.net.config.pad_token_id:
            return pad
        return None

    def _read_at_the_end(self, tokens: Tokens) -> Tensor:
        net, length = self.net, tokens.ids.shape[1]
        hidden_NLD = net.token_embedding(tokens.ids) + net.positional_embedding[:length]
        hidden_NLD = net.transformer(hidden_NLD, attn_mask=net.attn_mask[:length, :length])
        last_ND = net.ln_final(hidden_NLD[torch.arange(tokens.ids.shape[0], device=tokens.ids.device), tokens.lengths - 1])
        if net.text_projection is None:
            return last_ND
        return net.text_projection(last_ND) if isinstance(net.text_projection, nn.Module) else last_ND @ net.text_projection

    def _build(self, model: OpenCLIPModel) -> None:
        from open_clip.model import _build_text_tower

        config = {**model.config["text_cfg"], "hf_model_pretrained": False}
        name = config.get("hf_model_name")
        if not name:
            with building("OpenCLIPText", model):
                self.net = _build_text_tower(model.config["embed_dim"], config, model.quick_gelu)
            self.quick_gelu = model.quick_gelu
            return

        def load(_: bool) -> nn.Module:
            own = {**config, "hf_model_name": source}
            return _build_text_tower(model.config["embed_dim"], own, model.quick_gelu).float()

        with opened(_with_encoder(model.folder) or name, self._files, "OpenCLIPText") as source:
            read_config("OpenCLIPText", source)  # open_clip itself would prompt for running repository code
            self.net = reading(load, "OpenCLIPText", source)

    def _tokenizer_of(self, model: OpenCLIPModel) -> SimpleTokenizer | HFTokenizer:
        """open_clip's own tokenizer of this model, with its cleaning and context length."""
        from open_clip.tokenizer import HFTokenizer, SimpleTokenizer

        config = model.config["text_cfg"]
        arguments = {**(config.get("tokenizer_kwargs") or {}), "context_length": config.get("context_length", 77)}
        name = config.get("hf_tokenizer_name")
        if not name:
            with building("OpenCLIPText", model):
                return SimpleTokenizer(**arguments)

        def load(cached: bool) -> HFTokenizer:
            check_tokenizer("OpenCLIPText", source, cached)
            safely = {"trust_remote_code": False, "local_files_only": cached}  # overrides tokenizer_kwargs
            return HFTokenizer(source, tokenizer_mode=config.get("tokenizer_mode"), **{**arguments, **safely})

        with opened(model.folder or name, self._files, "OpenCLIPText") as source:
            return reading(load, "OpenCLIPText", source, cache_first=tokenizer_is_cached(source))


def _with_encoder(folder: str | None) -> str | None:
    """The folder, if its ``config.json`` is of a text encoder that open_clip supports; otherwise the encoder is looked up by name."""
    from open_clip.hf_configs import arch_dict

    if folder is None or not Path(folder, "config.json").is_file():
        return None
    kind = read_object(Path(folder, "config.json"), f"OpenCLIPText: {folder}").get("model_type")
    return folder if kind in arch_dict else None


class OpenCLIPTokenizer:
    """An open_clip tokenizer with explicit lengths.

    Args:
        tokenizer: Tokenizer of open_clip.
        padding: Id of padding that may be trimmed; ``None`` if the tower must see the whole context: all lengths are then equal to it.
    """

    def __init__(self, tokenizer: SimpleTokenizer | HFTokenizer, padding: int | None):
        self.context_length = tokenizer.context_length
        self.padding = padding
        self._tokenizer = tokenizer
        self.unknown_id = None if self._hugging_face is None else unknown_of(self._hugging_face)

    @functools.cached_property
    def languages(self) -> tuple[str, ...]:
        """Languages of the vocabulary; open_clip's own is OpenAI's."""
        return ("en",) if self._hugging_face is None else languages_of(self._hugging_face)

    @property
    def _hugging_face(self) -> PreTrainedTokenizerBase | None:
        return getattr(self._tokenizer, "tokenizer", None)

    def __call__(self, sentences: list[str]) -> Tokens:
        """Tokenise; longer sentences are truncated as in open_clip."""
        if not sentences:
            return Tokens(torch.zeros(0, 0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
        with ONE_AT_A_TIME:
            ids_NL = self._tokenizer(list(sentences))
        if self.padding is None:
            return Tokens(ids_NL, torch.full((len(ids_NL),), ids_NL.shape[1]))
        places_L = torch.arange(1, ids_NL.shape[1] + 1)
        lengths_N = (places_L * (ids_NL != self.padding)).amax(dim=1).clamp(min=1)  # up to the last token that is not padding
        return Tokens(ids_NL[:, : int(lengths_N.max())], lengths_N)

    def count(self, sentence: str) -> int:
        """The number of tokens of the whole sentence, before truncation."""
        own = self._tokenizer
        if self._hugging_face is None:
            return len(own.encode(sentence)) + 2  # start and end
        clips = own.tokenizer_mode == "clips"  # it adds start, end and class token itself
        with ONE_AT_A_TIME:
            ids = own.tokenizer(own.clean_fn(sentence), add_special_tokens=not clips, verbose=False)["input_ids"]
        return len(ids) + 3 * clips

    @property
    def identity(self) -> str | None:
        """See ``identity_of``; ``None`` if tokens are drawn at random, or made by Python code of transformers."""
        own, about = self._tokenizer, [self.context_length, self.padding]
        if self._hugging_face is None:
            cleaned = own.clean_fn.__name__
            return None if own.reduction_fn is not None else identity_of(self, *about, cleaned, list(own.encoder))
        with ONE_AT_A_TIME:
            settings = hugging_face_settings(self._hugging_face)
        cleaned = [own.clean_fn.__name__, own.tokenizer_mode, own.strip_sep_token]
        return None if settings is None else identity_of(self, *about, cleaned, settings)

    def portable(self) -> FastTokenizer | None:
        """See ``HFTokenizer.portable``; without open_clip's cleaning, except for CLIP's own tokenizer (``CLIPTokenizer.portable``)."""
        if self._hugging_face is not None:
            return None if self.padding is None else portable_of(self._hugging_face, self.context_length)
        made = CLIPTokenizer(self.context_length).portable()
        if self.padding is None:
            made.enable_padding(length=self.context_length)
        return made
