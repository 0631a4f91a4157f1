"""``tools/download.py NAME…``: load published models into the local cache, for machines without a network."""

from __future__ import annotations

import argparse

from clipzoo.cli import command_line
from clipzoo.commands import typed

DESCRIPTION = """Load what published towers need (weights, configs, tokenizers) into the local cache, and build them once to check them.
Copy the folder of the cache to a machine without a network, and set HF_HUB_OFFLINE=1 there.

  {download} chinese-clip:ViT-B-16 resnet18:pretrained
  HF_ENDPOINT=https://MIRROR {download} hf:google/siglip-base-patch16-224"""


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    parser = command_line.parser("download", DESCRIPTION.format(download=typed("download")))
    parser.add_argument("names", nargs="+", metavar="NAME", help="name of towers, as in a config; clipzoo models lists many")
    command_line.run(download, parser.parse_args(arguments))


def download(arguments: argparse.Namespace) -> None:
    """Download the models one after the other."""
    from clipzoo.models import published

    for name in arguments.names:
        found = published.download(name)
        state = "is already in" if found.was_there else "is now in"
        command_line.show(f"{name} {state} the local cache, {found.folder}")
        for tower in found.towers:
            command_line.show(f"    {tower.describe()}")
