"""``tools/export.py CHECKPOINT --format open_clip --out PATH``: a model for other libraries, other runtimes, or the hub."""

from __future__ import annotations

import argparse

from clipzoo.cli import command_line, model_arguments
from clipzoo.errors import ConfigError

DESCRIPTION = """Write a model for open_clip or transformers, as ONNX for onnxruntime, or with a model card for the hub. CHECKPOINT is a
checkpoint of a training, or the folder of a fold; except for the hub, also any file or folder of a CLIP's weights: OpenAI's,
open_clip's, transformers' or Chinese-CLIP's. Nothing is overwritten."""
_MOVED = "open_clip finds the text encoder by text_cfg.hf_model_name in open_clip_config.json: change it if you move the folder"
_FROM_HERE = "open_clip looks up the text encoder from the working directory: run it in the folder"
# Options that belong to some formats only.
_OPTIONS = {"fit": "transformers", "images": "onnx", "push": "hub", "lang": "hub"}


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    parser = command_line.parser("export", DESCRIPTION)
    parser.add_argument("checkpoint", type=command_line.path, metavar="CHECKPOINT", help="checkpoint of clipzoo, or a CLIP's weights")
    parser.add_argument("--format", required=True, choices=("open_clip", "transformers", "onnx", "hub"), help="what will load it")
    out = "new folder; for open_clip, a .safetensors file is also possible"
    parser.add_argument("--out", required=True, type=command_line.path, metavar="PATH", help=out)
    fit = "how transformers' processor makes images square if the weights were trained on padded images, which it does not support"
    parser.add_argument("--fit", choices=("crop", "squash"), help=fit)
    images = "for ONNX: images on which the graphs are compared with the model, besides drawn ones"
    parser.add_argument("--images", nargs="+", type=command_line.path, metavar="FILE", help=images)
    push = "for the hub: upload the folder to this repository, which is private if it is new"
    parser.add_argument("--push", metavar="ORGANISATION/NAME", help=push)
    parser.add_argument("--lang", choices=("en", "zh"), help="for the hub: language of the model card (default: en)")
    gelu = "activation, for files that do not define it: yes for OpenAI's weights, no for most others"
    parser.add_argument("--quick-gelu", choices=("yes", "no"), help=gelu)
    model_arguments.add_plugins_argument(parser)
    command_line.run(export, parser.parse_args(arguments))


def export(arguments: argparse.Namespace) -> None:
    """Read, write, and show how the other library loads it."""
    for option, owner in _OPTIONS.items():
        if getattr(arguments, option) is not None and arguments.format != owner:
            instead = ": open_clip can pad" if (option, arguments.format) == ("fit", "open_clip") else ""
            raise ConfigError(f"export: --{option} is for --format {owner} only. Remove it{instead}")
    with model_arguments.warnings_in_a_line():
        {"onnx": _onnx, "hub": _hub}.get(arguments.format, _towers)(arguments)


def _hub(arguments: argparse.Namespace) -> None:
    """Write a folder with a model card, and upload it if wanted."""
    from clipzoo.inference.hub_folder import CARD, push, write_hub
    from clipzoo.models.catalogue import is_repository_name

    repository, out = arguments.push or "", arguments.out
    if repository and not is_repository_name(repository):
        raise ConfigError(f"export: --push {repository!r} is not a repository's name. Write it as ORGANISATION/NAME")
    if arguments.quick_gelu is not None:
        raise ConfigError("export: --quick-gelu is for weights that do not define their activation; a checkpoint does. Remove it")
    library = write_hub(arguments.checkpoint, out, repository=repository, lang=arguments.lang or "en", plugins=tuple(arguments.plugins))
    command_line.show(f"{out}: weights for {library}, and {CARD}. Read it, and choose a licence, before you publish it")
    if repository:
        command_line.show(push(out, repository))
    elif library == "open_clip":
        command_line.show(_FROM_HERE)


def _onnx(arguments: argparse.Namespace) -> None:
    """Write graphs, and show how far they are from the model."""
    from clipzoo.inference.load import load_one
    from clipzoo.inference.onnx_folder import write_onnx

    gelu = None if arguments.quick_gelu is None else arguments.quick_gelu == "yes"
    loaded = load_one(arguments.checkpoint, device="cpu", precision="fp32", quick_gelu=gelu, plugins=arguments.plugins)
    found = write_onnx(loaded, arguments.out, arguments.images or ())
    lines = [f"{arguments.out}: compared with the model in onnxruntime", f"images         {found.image:.1e}   {found.num_images} images"]
    if found.text is not None:
        lines.append(f"texts          {found.text:.1e}   {found.num_sentences} sentences")
    if found.probabilities is not None:
        lines.append(f"probabilities  {found.probabilities:.1e}   {found.num_images} images")
    command_line.show("\n".join(lines))


def _towers(arguments: argparse.Namespace) -> None:
    """Write a CLIP's towers for open_clip or transformers."""
    from dataclasses import replace

    from clipzoo.inference.export import drop_test_views, trained_model, warn_of_test_views, weights_of
    from clipzoo.models.export import wraps_towers, write_open_clip, write_open_clip_towers, write_transformers

    if arguments.format == "open_clip":
        trained = trained_model(arguments.checkpoint, "export", plugins=arguments.plugins)
        if trained is not None and wraps_towers(trained[0], f"export: {trained[1]}"):
            if drop_test_views(trained[0]):
                warn_of_test_views(f"export: {trained[1]}")
            write_open_clip_towers(trained[0], arguments.out, f"export: {trained[1]}")
            towers = f"{trained[0].image_encoder.name}; {trained[0].text_encoder.name}"
            command_line.show(f"{arguments.out}: {towers}\n{_how_to_load(None, arguments)}\n{_MOVED}")
            return
    weights = weights_of(arguments.checkpoint, "export", plugins=arguments.plugins)
    requested = None if arguments.quick_gelu is None else arguments.quick_gelu == "yes"
    where = f"export: {arguments.checkpoint}"
    if requested is None and weights.quick_gelu is None:
        raise ConfigError(
            f"{where} does not define the activation that its weights were trained with. Pass --quick-gelu yes (OpenAI's) or no"
        )
    weights = replace(weights, quick_gelu=weights.activation(requested, where))
    if arguments.format == "transformers":
        write_transformers(weights, arguments.out, fit=arguments.fit)
    else:
        write_open_clip(weights, arguments.out)
    image, text = weights.describe_vision(), weights.describe_text()
    command_line.show(f"{arguments.out}: {image}; {text}; quick_gelu={weights.quick_gelu}\n{_how_to_load(weights, arguments)}")


def _how_to_load(weights, arguments: argparse.Namespace) -> str:
    """The line of Python that loads the exported model."""
    out = str(arguments.out)
    if arguments.format == "transformers":
        return f"load it with transformers.{'CLIPModel' if weights.text_kind == 'clip' else 'ChineseCLIPModel'}.from_pretrained({out!r})"
    if arguments.out.suffix != ".safetensors":
        return f"load it with open_clip.create_model_and_transforms({f'local-dir:{out}'!r})"
    from clipzoo.models.export.open_clip import open_clip_names

    names = open_clip_names(weights)
    if not names:
        return "open_clip has no name for a model of these sizes: register its config there, or export a folder, which has one"
    call = f"open_clip.create_model({names[0]!r}, pretrained={out!r})"
    return f"load it with {call}; a single file does not store the preprocessing for open_clip; a folder does"
