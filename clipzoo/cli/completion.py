"""``clipzoo completion SHELL``: a script that completes commands, options, configs, and the keys and values of ``--cfg-options``."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterable, Mapping
from types import UnionType
from typing import Annotated, Literal, Union, get_args, get_origin

from clipzoo import cli
from clipzoo.cli import command_line

DESCRIPTION = """Print a completion script for a shell. It completes commands, options, shipped configs, and after --cfg-options the keys
(model.image_encoder.type=) and their values: registered names, choices, True and False. Requires the package shtab.

  bash   clipzoo completion bash > ~/.local/share/bash-completion/completions/clipzoo
  zsh    clipzoo completion zsh > FOLDER/_clipzoo       with fpath=(FOLDER $fpath) before compinit in ~/.zshrc
  fish   clipzoo completion fish > ~/.config/fish/completions/clipzoo.fish

Write it again after an update of clipzoo: keys and names are in the script, so that completing starts no Python."""

SHELLS = ("bash", "zsh", "fish")
KEYS, CONFIGS = "_clipzoo_keys", "_clipzoo_config_files"  # shtab quotes candidates as file names where the function is called so

# Between bash's words stands every "=", unless the user has removed it from COMP_WORDBREAKS.
BASH = r"""
_clipzoo_config_files() { compgen -W "$_clipzoo_configs" -- "$1"; compgen -f -- "$1"; }
_clipzoo_keys() {
  local word="$1" key="" start=""
  if [[ "$word" == "=" ]]; then key="${COMP_WORDS[COMP_CWORD-1]}"; word=""
  elif [[ "${COMP_WORDS[COMP_CWORD-1]}" == "=" ]]; then key="${COMP_WORDS[COMP_CWORD-2]}"
  elif [[ "$word" == *=* ]]; then key="${word%%=*}"; start="$key="; word="${word#*=}"; fi
  if [[ -n "$key" ]]; then compgen -P "$start" -W "$(_clipzoo_values "$key")" -- "$word"
  else compgen -S = -W "$_clipzoo_all_keys" -- "$word"; fi
}
"""
# What follows shtab's script. In bash, no space after "key=": the value follows.
AFTER = {
    "bash": """
_clipzoo_complete() {
  _shtab_clipzoo
  if [[ "${COMPREPLY[0]-}" == *= ]]; then compopt -o nospace 2>/dev/null; fi
  return 0
}
complete -o bashdefault -F _clipzoo_complete clipzoo
""",
    # The second and every further key after one option.
    "fish": "\ncomplete -c clipzoo -n _clipzoo_in_keys -xka '(_clipzoo_keys)'\n",
}
ZSH = r"""
_clipzoo_config_files() { compadd -- ${(s: :)_clipzoo_configs}; _files; }
_clipzoo_keys() {
  if [[ "$PREFIX" == *=* ]]; then
    local values="$(_clipzoo_values "${PREFIX%%=*}")"
    compset -P '*='
    compadd -- ${(s: :)values}
  else compadd -S '=' -- ${(s: :)_clipzoo_all_keys}; fi
}
"""
FISH = r"""
function _clipzoo_config_files
  string split ' ' $_clipzoo_configs
  __fish_complete_path (commandline -ct)
end
function _clipzoo_keys
  set -l word (commandline -ct)
  if string match -q '*=*' -- $word
    set -l key (string split -m1 '=' -- $word)[1]
    for value in (_clipzoo_values $key); echo "$key=$value"; end
  else
    for key in (string split ' ' $_clipzoo_all_keys); echo "$key="; end
  end
end
function _clipzoo_in_keys
  set -l last ''
  for word in (commandline -opc); string match -q -- '-*' $word; and set last $word; end
  contains -- "$last" OPTIONS
end
"""


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    parser = command_line.parser("completion", DESCRIPTION)
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help=", ".join(SHELLS))
    parser.add_argument("--plugins", nargs="*", default=[], metavar="MODULE", help="modules whose classes are completed too")
    command_line.run(completion, parser.parse_args(arguments))


def completion(arguments: argparse.Namespace) -> None:
    """Collect the parsers and the keys, and print the script."""
    from clipzoo.errors import BuildError

    try:
        import shtab
    except ImportError as error:
        raise BuildError("completion: requires the package shtab. Run pip install shtab") from error
    from clipzoo.config.keys import all_keys
    from clipzoo.config.plugins import import_plugins

    import_plugins(arguments.plugins)
    shell = arguments.shell
    values = {path: values_of(key.annotation, key.registry) for path, key in all_keys().items()}
    root, options = whole_parser(shell)
    script = shtab.complete(root, shell, preamble=preamble(shell, values, options))
    command_line.show(script + AFTER.get(shell, ""))


def values_of(annotation: object, registry: Iterable[str] | None) -> list[str]:
    """The values that can be listed: registered names, choices, True and False, None beside any of them."""
    members = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    found = [] if registry is None else sorted(registry)
    for member in members:
        base = get_args(member)[0] if get_origin(member) is Annotated else member
        found += [str(choice) for choice in get_args(base)] if get_origin(base) is Literal else ["True", "False"] if base is bool else []
    return [*found, *(["None"] if type(None) in members else [])]


def whole_parser(shell: str) -> tuple[argparse.ArgumentParser, list[str]]:
    """One parser with every command below it, marked for shtab, and the options that take keys."""
    root = argparse.ArgumentParser(prog="clipzoo")
    root.add_argument("--version", action="store_true", help="show the version")
    commands, key_options = root.add_subparsers(), set()
    for name, purpose in cli.COMMANDS.items():
        module = importlib.import_module(f"clipzoo.cli.{name}")
        further = getattr(module, "COMMANDS", {})  # those of fewshot
        if further:
            inner = commands.add_parser(name, help=purpose, description=purpose).add_subparsers()
            made = [(inner, word, what, command_line.parser_of(module.main, word)) for word, what in further.items()]
        else:
            made = [(commands, name, purpose, command_line.parser_of(module.main))]
        for place, word, what, parser in made:
            for action in parser._actions:
                key_options |= set(action.option_strings) if mark(action, shell) == KEYS else set()
            place.add_parser(word, parents=[parser], add_help=False, help=what, description=what)
    return root, sorted(key_options)


def mark(action: argparse.Action, shell: str) -> str:
    """Tell shtab how an argument is completed; return the shell function that does so, if it is one of ours."""
    import shtab

    own = CONFIGS if action.metavar == "CONFIG" else KEYS if str(action.metavar).startswith("KEY=") else ""
    if own:
        action.complete = {shell: f"({own})" if shell == "fish" else own}
        if shell == "zsh" and own == KEYS:
            action.metavar = "*-*:KEY=VALUE"  # all words up to the next option
    elif action.metavar == "TABLE":
        from clipzoo.registries import TABLES

        action.choices = list(TABLES)
    elif action.type in (command_line.path, command_line.path_text):
        is_folder = any(word in f"{action.dest} {action.metavar}".casefold() for word in ("dir", "folder"))
        action.complete = shtab.DIRECTORY if is_folder else shtab.FILE
    return own


def preamble(shell: str, values: Mapping[str, list[str]], key_options: list[str]) -> str:
    """The keys, their values and the shipped configs as data of the shell, and the functions that offer them."""
    from clipzoo.config import shipped

    data = {"_clipzoo_configs": " ".join(shipped.names()), "_clipzoo_all_keys": " ".join(values)}
    listed = {path: " ".join(found) for path, found in values.items() if found}
    if shell == "fish":
        lines = [f"set -g {name} '{text}'" for name, text in data.items()]
        cases = [f"    case {path}\n      string split ' ' '{text}'" for path, text in listed.items()]
        lines += ["function _clipzoo_values", "  switch $argv[1]", *cases, "  end", "end"]
        return "\n".join(lines) + FISH.replace("OPTIONS", " ".join(key_options))
    lines = [f"{name}='{text}'" for name, text in data.items()]
    cases = [f"    {path}) echo '{text}' ;;" for path, text in listed.items()]
    return "\n".join([*lines, "_clipzoo_values() {", '  case "$1" in', *cases, "  esac", "}"]) + (BASH if shell == "bash" else ZSH)
