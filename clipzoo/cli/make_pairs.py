"""``tools/make_pairs.py IMAGES --out train.csv``: a table of image paths and captions from class folders and a class list."""

from __future__ import annotations

import argparse

from clipzoo.cli import command_line
from clipzoo.errors import ConfigError

DESCRIPTION = """Write a table of image paths and captions, for training CLIP on class folders:
  IMAGES contains one folder per class, with images at any depth (Tiny ImageNet: train/),
  or, with --annotations, the images themselves (Tiny ImageNet: val/images).
Two classes with the same caption are refused, as nothing would distinguish them."""


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    parser = command_line.parser("make_pairs", DESCRIPTION)
    parser.add_argument("images", metavar="IMAGES", type=command_line.path, help="folder with the class folders")
    parser.add_argument(
        "--out", type=command_line.path, required=True, metavar="FILE", help="output table, .csv or .tsv; or, with --shards, a folder"
    )
    help_ = "names of the classes: JSON {folder: name or names}, CSV, or lines 'folder<tab>name, synonym' (default: the folders' names)"
    parser.add_argument("--class-list", type=command_line.path, metavar="FILE", help=help_)
    help_ = "class of every image, instead of class folders: JSON {image: class}, CSV, or lines 'image<tab>class'"
    parser.add_argument("--annotations", type=command_line.path, metavar="FILE", help=help_)
    parser.add_argument("--template", default="a photo of a {class_name}", help="caption of a class (default: '%(default)s')")
    help_ = "for classes with several names: use the first, all in one caption, or one caption per name (default: first)"
    parser.add_argument("--names", choices=["first", "all", "each"], default="first", help=help_)
    help_ = "column separator (default: comma in .csv, tab in .tsv)"
    parser.add_argument("--separator", choices=["tab", "comma", "semicolon"], help=help_)
    parser.add_argument("--image-key", default="filepath", metavar="NAME", help="name of the path column (default: %(default)s)")
    parser.add_argument("--caption-key", default="title", metavar="NAME", help="name of the caption column (default: %(default)s)")
    help_ = "pattern that finds the group, such as a patient, in a file name, e.g. '^(P[0-9]+)_'; adds the column group"
    parser.add_argument("--group-pattern", metavar="REGEX", help=help_)
    help_ = "share of images for --val-out, stratified by class"
    parser.add_argument("--val-fraction", type=float, default=0.0, metavar="SHARE", help=help_)
    parser.add_argument("--val-out", type=command_line.path, metavar="FILE", help="table of the val part")
    parser.add_argument("--limit-per-class", type=int, metavar="N", help="at most N randomly chosen images per class")
    parser.add_argument("--seed", type=int, default=0, help="random seed (default: 0)")
    help_ = "write WebDataset shards (tar files) with the images into new folders --out and --val-out, instead of tables"
    parser.add_argument("--shards", action="store_true", help=help_)
    parser.add_argument("--shard-size", type=int, metavar="N", help="images per shard, with --shards (default: 10000)")
    parser.add_argument("--force", action="store_true", help="overwrite tables with other content")
    command_line.run(make, parser.parse_args(arguments))


def make(arguments: argparse.Namespace) -> None:
    """Write the tables, and list them."""
    from clipzoo.datasets.make_pairs import Columns, make_pairs

    columns = Columns(arguments.image_key, arguments.caption_key, arguments.separator)
    if arguments.shard_size is not None and not arguments.shards:
        raise ConfigError("--shard-size: only with --shards, which writes tar files instead of a table")
    if arguments.shards and arguments.force:
        raise ConfigError("--force: shards are only written into new folders. Remove it, and choose another folder or delete the old one")
    if arguments.shards:
        arguments.shard_size = 10_000 if arguments.shard_size is None else arguments.shard_size
    others = ("shards", "out", "images", "image_key", "caption_key", "separator", "debug")
    options = {name: value for name, value in vars(arguments).items() if name not in others}
    for made in make_pairs(arguments.images, arguments.out, columns=columns, **options):
        command_line.show(f"written: {made}")
