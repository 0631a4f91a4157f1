"""``tools/models.py [--search TEXT]``: published models by name, and whether they are in the local cache."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from clipzoo.cli import command_line
from clipzoo.commands import typed

if TYPE_CHECKING:
    from clipzoo.models.catalogue import Published

DESCRIPTION = """List published models: the name for a config (model.image_encoder, model.text_encoder), towers, parameters, image size,
language, licence, and the repository that has the weights. Any other repository of these kinds can be named, too."""


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    parser = command_line.parser("models", DESCRIPTION)
    parser.add_argument("--search", metavar="TEXT", help="only models with this text in any field, such as biomed, Chinese or ViT-B")
    parser.add_argument("--cached", action="store_true", help="only models whose weights are in the local cache")
    parser.add_argument("--all", action="store_true", help="also every model in open_clip's list; a search always includes them")
    command_line.run(models, parser.parse_args(arguments))


def models(arguments: argparse.Namespace) -> None:
    """Select the models, and show them."""
    from clipzoo.errors import ConfigError, did_you_mean
    from clipzoo.models.catalogue import CATALOGUE
    from clipzoo.models.published import is_cached, known_models

    known = known_models()
    shown = known if arguments.all or arguments.search or arguments.cached else CATALOGUE
    if arguments.search:
        shown = [published for published in shown if arguments.search.casefold() in str(published).casefold()]
    rows = [(published, is_cached(published)) for published in shown]
    rows = [(published, cached) for published, cached in rows if cached or not arguments.cached]
    if not rows and arguments.search:
        words = {word for published in known for word in str(published).replace("/", " ").replace("-", " ").split()}
        hint = did_you_mean(arguments.search, sorted(words))
        raise ConfigError(f"models: none of {len(known)} models matches '{arguments.search}'.{hint} Try a shorter text")
    for published, cached in rows:
        command_line.show(_lines(published, cached=cached))
    rest = len(known) - len(CATALOGUE)
    more = "" if shown is not CATALOGUE else f", and {rest} of open_clip with --all or --search"
    cached_count = sum(cached for _, cached in rows)
    count = f"{len(rows)} model{'s' * (len(rows) != 1)}, {cached_count} in the local cache{more}"
    command_line.show(f"\n{count}. To load one there: {typed('download')} NAME")


def _lines(published: Published, *, cached: bool) -> str:
    towers = " + ".join(filter(None, (published.image and f"image {published.image}", published.text and f"text {published.text}")))
    facts = [
        towers,
        f"{published.parameters:g} M parameters" if published.parameters else "",
        f"{published.image_size} px" if published.image_size else "",
        published.language,
        f"licence: {published.licence}",
        f"from {published.repository}",
    ]
    return f"{published.name}{'   (in the local cache)' if cached else ''}\n    {', '.join(filter(None, facts))}"
