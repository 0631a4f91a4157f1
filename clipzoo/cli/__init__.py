"""The command line: one module per command. ``clipzoo train CONFIG`` and ``python tools/train.py CONFIG`` are the same."""

from __future__ import annotations

import importlib
import sys

from clipzoo.cli import command_line

COMMANDS = {
    "init": "write a first config for your own data, with the reason for every choice",
    "train": "train all folds of a config, or continue a stopped run",
    "test": "recompute the out-of-fold table from the checkpoints, or score an external folder",
    "baselines": "scores of frozen features on the folds of a config, without training",
    "predict": "classify images with a trained or published CLIP",
    "explain": "show which part of an image speaks for a text or a class",
    "search": "find the images of a folder most similar to a text or an image",
    "serve": "a page on this machine to try a model in a browser, and the same as JSON",
    "fewshot": "fine-tune for, predict and evaluate few-shot tasks",
    "summary": "print the tables of a finished work dir",
    "report": "a finished run, or several, as one page of HTML with pictures, and every number as JSON",
    "compare": "paired comparison of finished runs on the same cases",
    "learning_curve": "would more data help? scores after learning from shares of the training groups",
    "suspicious_labels": "labels that are probably wrong, from out-of-fold predictions",
    "excel": "copies of CSV files that Excel opens with Chinese intact",
    "grid": "image towers x text towers x seeds over several devices, with a leaderboard",
    "tune": "search for hyper-parameters on the val parts, then train and test the best trial",
    "print_config": "show a resolved config with the origin of every key",
    "list_modules": "list registered classes with their arguments",
    "models": "list published models by name, and those in the local cache",
    "download": "load published models into the local cache ahead of time",
    "schema": "JSON Schema of the config, for editors and other programs",
    "completion": "completion script for bash, zsh or fish",
    "export": "write a trained CLIP, or any published one, for open_clip or transformers",
    "check_data": "damaged files, copies, leaks, small classes, telling borders and captions, before training",
    "make_folds": "make, verify and write folds.json without training",
    "make_pairs": "write a table of image paths and captions from class folders",
    "make_sample_data": "write a small data set to try clipzoo with",
}


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the console script ``clipzoo COMMAND …``."""
    arguments = sys.argv[1:] if arguments is None else arguments
    command = (arguments[0] if arguments else "--help").replace("-", "_")
    if command in COMMANDS:
        importlib.import_module(f"clipzoo.cli.{command}").main(arguments[1:])
        return
    if command in ("__version", "_V"):
        from clipzoo import __version__

        command_line.show(f"clipzoo {__version__}")
        return
    if command in ("__help", "_h"):
        usage = "usage: clipzoo COMMAND …   (clipzoo COMMAND --help for each; clipzoo --version)"
        width = max(map(len, COMMANDS))
        lines = [f"  {name:<{width}}  {what}" for name, what in COMMANDS.items()]
        command_line.show("\n".join([usage, "", *lines]))
        return
    from clipzoo.errors import did_you_mean

    hint = did_you_mean(command, COMMANDS)
    command_line.say(f"error: clipzoo: no command '{arguments[0]}'.{hint} Commands: {', '.join(COMMANDS)}")
    raise SystemExit(2)
