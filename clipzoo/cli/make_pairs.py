"""``tools/make_pairs.py IMAGES --out train.csv``: a table of image paths and captions out of class folders and a class list."""

from __future__ import annotations

import argparse

from clipzoo.cli import door

DESCRIPTION = """Write a table of image paths and captions, for training CLIP on class folders:
  IMAGES holds one folder per class, with images at any depth below it (Tiny ImageNet: train/),
  or, with --annotations, the images themselves (Tiny ImageNet: val/images).
Two classes with the same caption are refused: nothing could tell them apart."""


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    parser = door.parser("make_pairs", DESCRIPTION)
    parser.add_argument("images", metavar="IMAGES", type=door.path, help="the folder that holds the class folders")
    parser.add_argument("--out", type=door.path, required=True, metavar="FILE", help="the table, .csv or .tsv")
    help_ = "names of the classes: JSON {folder: name or names}, CSV, or lines 'folder<tab>name, synonym' (default: the folders' names)"
    parser.add_argument("--class-list", type=door.path, metavar="FILE", help=help_)
    help_ = "the class of every image, instead of class folders: JSON {image: class}, CSV, or lines 'image<tab>class'"
    parser.add_argument("--annotations", type=door.path, metavar="FILE", help=help_)
    parser.add_argument("--template", default="a photo of a {class_name}", help="the caption of a class (default: '%(default)s')")
    help_ = "of a class with several names: the first, all in one caption, or each in a caption of its own (default: first)"
    parser.add_argument("--names", choices=["first", "all", "each"], default="first", help=help_)
    help_ = "between the columns (default: comma in .csv, tab in .tsv)"
    parser.add_argument("--separator", choices=["tab", "comma", "semicolon"], help=help_)
    parser.add_argument("--image-key", default="filepath", metavar="NAME", help="name of the column of paths (default: %(default)s)")
    parser.add_argument("--caption-key", default="title", metavar="NAME", help="name of the column of captions (default: %(default)s)")
    help_ = "finds in a file name which images belong together (a patient's), e.g. '^(P[0-9]+)_'; adds the column group"
    parser.add_argument("--group-pattern", metavar="REGEX", help=help_)
    help_ = "this share of the images goes to --val-out, classes in proportion"
    parser.add_argument("--val-fraction", type=float, default=0.0, metavar="SHARE", help=help_)
    parser.add_argument("--val-out", type=door.path, metavar="FILE", help="the table of the val part")
    parser.add_argument("--limit-per-class", type=int, metavar="N", help="at most N images of every class, drawn")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn (default: 0)")
    parser.add_argument("--force", action="store_true", help="write over tables of other content")
    door.run(make, parser.parse_args(arguments))


def make(arguments: argparse.Namespace) -> None:
    """Write, and say what."""
    from clipzoo.datasets.make_pairs import Columns, make_pairs

    columns = Columns(arguments.image_key, arguments.caption_key, arguments.separator)
    others = ("out", "images", "image_key", "caption_key", "separator", "debug")
    options = {name: value for name, value in vars(arguments).items() if name not in others}
    for made in make_pairs(arguments.images, arguments.out, columns=columns, **options):
        door.show(f"written: {made}")
