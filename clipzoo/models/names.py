"""Short names of towers, in one place: converted to plain dicts with ``type`` and arguments. Imports nothing heavy.

The rule: the name of an architecture (``resnet18``, ``timm:resnet18``, ``bert``) starts from random weights, and ``:pretrained``
(or ``:true``) loads published ones. The name of published weights (``clip:ViT-B/32``, ``bert-base-chinese``, ``hf:<name or folder>``,
``timm:resnet18.a1_in1k``, ``openclip:<name>/<tag>``) loads them, and ``:scratch`` (or ``:false``) starts from random weights.
``weights:<file or folder>`` is a tower of a whole CLIP stored there, with the sizes found there; ``chinese-clip:<file or folder>``
likewise if its text tower is a BERT. A repository of the Hugging Face hub is ``hf:<organisation>/<name>`` for transformers (also
without ``hf:``), ``openclip:hf-hub:<organisation>/<name>`` for open_clip, and ``timm:hf-hub:<organisation>/<name>`` for timm;
one of ModelScope has ``modelscope:`` before its name (``hf:modelscope:<organisation>/<name>``, ``chinese-clip:modelscope:…``).
"""

from __future__ import annotations

from clipzoo.errors import RegistryError, did_you_mean, shortened
from clipzoo.models.catalogue import is_repository_name

_SUFFIXES = {"pretrained": True, "true": True, "false": False, "scratch": False}
_VITS = ("tiny", "small", "base", "large")
_CLIPS = ("ViT-B/32", "ViT-B/16", "ViT-L/14", "ViT-L/14@336px", "RN50", "RN101", "RN50x4", "RN50x16", "RN50x64")
_IMAGE: dict[str, dict] = {
    **{f"resnet{depth}": {"type": "ResNet", "depth": depth} for depth in (18, 34, 50, 101, 152)},
    **{f"starnet_{v}": {"type": "StarNet", "variant": v} for v in ("s1", "s2", "s3", "s4", "s050", "s100", "s150")},
    **{f"efficientnet-b{i}": {"type": "EfficientNet", "variant": f"b{i}"} for i in range(8)},
    **{f"convnext-{v}": {"type": "ConvNeXt", "variant": v} for v in ("tiny", "small", "base", "large")},
    "vit": {"type": "VisionTransformer", "variant": "base"},
    **{f"vit-{v}": {"type": "VisionTransformer", "variant": v} for v in _VITS},
    **{f"clip:{v}": {"type": "CLIPVision", "variant": v} for v in _CLIPS},
}
_TEXT: dict[str, dict] = {
    **{f"clip:{v}": {"type": "CLIPText", "variant": v} for v in _CLIPS},
    "bert-base-chinese": {"type": "BERT", "name": "bert-base-chinese"},
    "bert": {"type": "BERT"},
}
# The names in Chinese-CLIP's releases, and their repositories in transformers' layout.
CHINESE_CLIPS = {
    "ViT-B-16": "OFA-Sys/chinese-clip-vit-base-patch16",
    "ViT-L-14": "OFA-Sys/chinese-clip-vit-large-patch14",
    "ViT-L-14-336": "OFA-Sys/chinese-clip-vit-large-patch14-336px",
    "ViT-H-14": "OFA-Sys/chinese-clip-vit-huge-patch14",
}
_FILES_ONLY = {"RN50": "clip_cn_rn50.pt"}
# bert-base-chinese:scratch is a network of that size with a vocabulary created in code, since the published one would need the hub.
_BERT_BASE = {"type": "BERT", "hidden_size": 768, "num_layers": 12, "num_heads": 12}
_OF_CLIPS = (
    "clip:ViT-B/32…RN101, openclip:<name>/<tag>, openclip:hf-hub:<organisation>/<name>, weights:<file or folder>, "
    "chinese-clip:<file, folder or name>"
)
_IMAGE_FAMILIES = (
    "resnet18…152, starnet_s1…s4/s050/s100/s150, efficientnet-b0…b7, convnext-tiny…large, vit, timm:<name>, hf:<name or folder>, "
    f"{_OF_CLIPS}"
)
_TEXT_FAMILIES = f"bert-base-chinese, bert, hf:<name or folder>, {_OF_CLIPS}"
_HUB = "hf-hub:"
_PREFIXES = ("timm:", "hf:", "openclip:", "weights:", "chinese-clip:")


def image_encoder(text: str) -> dict | None:
    """Expand the short name of an image tower; ``None`` if it looks like a class name, which the registry resolves.

    Raises:
        RegistryError: The name is unknown; the message gives the closest name and the families.

    >>> image_encoder('starnet_s1:pretrained')
    {'type': 'StarNet', 'variant': 's1', 'pretrained': True}
    >>> image_encoder('timm:resnet10t')
    {'type': 'TimmBackbone', 'name': 'resnet10t', 'pretrained': False}
    >>> image_encoder('openclip:ViT-B-32/laion2b_s34b_b79k')
    {'type': 'OpenCLIPBackbone', 'name': 'ViT-B-32', 'tag': 'laion2b_s34b_b79k'}
    >>> image_encoder('openai/clip-vit-base-patch32')
    {'type': 'HFVision', 'name': 'openai/clip-vit-base-patch32', 'pretrained': True}
    """
    name, pretrained = _split(text)
    of_a_clip = _of_a_clip(name, pretrained, openclip="OpenCLIPBackbone", weights="CLIPVision", chinese="CLIPVision")
    if of_a_clip is not None:
        return of_a_clip
    name = _with_library(name)
    if name.startswith("hf:") and len(name) > len("hf:"):
        return {"type": "HFVision", "name": name.removeprefix("hf:"), "pretrained": pretrained is not False}
    if name.startswith("timm:") and len(name) > len("timm:"):
        model = name.removeprefix("timm:")
        weights = "." in model or model.startswith(_HUB) or _is_path(model)
        return {"type": "TimmBackbone", "name": model, "pretrained": weights if pretrained is None else pretrained}
    canonical = _canonical(name, _IMAGE)
    if canonical is not None:
        published = canonical.startswith("clip:") if pretrained is None else pretrained
        return {**_IMAGE[canonical], "pretrained": published}
    return _unknown(text, name, _IMAGE, "image encoder", _IMAGE_FAMILIES)


def text_encoder(text: str) -> dict | None:
    """Expand the short name of a text tower; ``None`` if it looks like a class name, which the registry resolves.

    Raises:
        RegistryError: The name is unknown; the message gives the closest name and the families.

    >>> text_encoder('clip:ViT-B/32')
    {'type': 'CLIPText', 'variant': 'ViT-B/32', 'pretrained': True}
    >>> text_encoder('bert')
    {'type': 'BERT', 'pretrained': False}
    """
    name, pretrained = _split(text)
    of_a_clip = _of_a_clip(name, pretrained, openclip="OpenCLIPText", weights="CLIPText", chinese="BERT")
    if of_a_clip is not None:
        return of_a_clip
    published, name = pretrained is not False, _with_library(name)
    if name.startswith("hf:") and len(name) > len("hf:"):
        return {"type": "HFText", "name": name.removeprefix("hf:"), "pretrained": published}
    if name.startswith("timm:"):
        raise RegistryError(f"text encoder '{text}': timm has image towers only. Known: {_TEXT_FAMILIES}")
    canonical = _canonical(name, _TEXT)
    if canonical == "bert":
        if pretrained:
            raise RegistryError("'bert' is a small network without published weights. Use bert-base-chinese or hf:<name or folder>")
        return {**_TEXT["bert"], "pretrained": False}
    if canonical == "bert-base-chinese" and not published:
        return {**_BERT_BASE, "pretrained": False}
    if canonical is not None:
        return {**_TEXT[canonical], "pretrained": published}
    return _unknown(text, name, _TEXT, "text encoder", _TEXT_FAMILIES)


def _of_a_clip(name: str, pretrained: bool | None, *, openclip: str, weights: str, chinese: str) -> dict | None:
    """Expand ``openclip:``, ``weights:`` and ``chinese-clip:``; ``None`` for other names.

    Raises:
        RegistryError: The suffix does not apply.
    """
    prefix, _, rest = name.partition(":")
    if not rest:
        return None
    if prefix in ("weights", "chinese-clip"):
        if pretrained is False:
            raise RegistryError(f"'{name}:scratch': these are weights. For random ones use an architecture, such as clip:ViT-B/32:scratch")
        if prefix == "weights":
            return {"type": weights, "pretrained": rest}
        if rest in _FILES_ONLY:
            raise RegistryError(f"'{name}': published as a file only. Download {_FILES_ONLY[rest]}, and pass chinese-clip:<file>")
        return {"type": chinese, "pretrained": CHINESE_CLIPS.get(rest, rest)}
    if prefix != "openclip":
        return None
    if _is_path(rest) or rest.startswith(_HUB):  # with an open_clip config
        return {"type": openclip, "name": rest, "pretrained": pretrained is not False}
    model, _, tag = rest.partition("/")
    if not tag and pretrained:
        raise RegistryError(f"'{name}:pretrained': no tag of weights. Use openclip:{rest}/<tag>, or openclip:{rest} for random weights")
    return {"type": openclip, "name": model, **({"tag": tag} if tag and pretrained is not False else {})}


def _with_library(name: str) -> str:
    """A repository's bare name with the prefix of its library: timm for timm's own, otherwise transformers."""
    if not is_repository_name(name):
        return name
    return f"timm:{_HUB}{name}" if name.startswith("timm/") else f"hf:{name}"


def _is_path(text: str) -> bool:
    return text.startswith(("/", "./", "../", "~", "modelscope:")) or "\\" in text or text in (".", "..")


def _split(text: str) -> tuple[str, bool | None]:
    """Split off the suffix: the name, and whether weights are loaded (``None`` without a suffix).

    Only the four known suffixes count, as a folder name may contain a colon.
    """
    name, colon, suffix = text.strip().rpartition(":")
    if colon and suffix.lower() in _SUFFIXES:
        return name, _SUFFIXES[suffix.lower()]
    return text.strip(), None


def _canonical(name: str, names: dict[str, dict]) -> str | None:
    """The name in ``names`` that equals ``name`` up to ``-`` instead of ``_``, as in timm."""
    folded = {own.replace("_", "-"): own for own in names}
    return folded.get(name.replace("_", "-"))


def _at_timm(text: str, name: str, kind: str) -> str:
    """``' Did you mean …?'`` for a network of timm that was named without its prefix."""
    import timm

    return f" Did you mean 'timm:{text}'?" if kind == "image encoder" and timm.is_model(name) else ""


def _unknown(text: str, name: str, names: dict[str, dict], kind: str, families: str) -> None:
    """Refuse a name, unless it may be a class in the registry.

    Raises:
        RegistryError: The name is unknown; the message suggests a fix.
    """
    base, colon, suffix = name.rpartition(":")
    if colon and (_canonical(base, names) or base.startswith(_PREFIXES)):
        raise RegistryError(f"{kind} '{text}': unknown suffix ':{suffix}'.{did_you_mean(suffix, _SUFFIXES)} Known: {shortened(_SUFFIXES)}")
    looks_like_class = name.isidentifier() and name[:1].isupper()
    if looks_like_class and name.casefold() not in {known.casefold() for known in names}:
        return None
    near = _at_timm(text, name, kind) or did_you_mean(name, names)
    raise RegistryError(f"unknown {kind} '{text}'.{near} Known: {families}, or a registered class; :pretrained or :scratch may follow")
