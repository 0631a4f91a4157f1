"""Every python and bash block of the READMEs and of docs/ runs: in order, in one temporary folder per page, on tiny data.

Marks, as HTML comments on the line above a block, which readers do not see:

    <!-- file: PATH -->        the block is the file PATH, which later blocks use; a config is loaded and checked
    <!-- not run: REASON -->   the block needs a GPU, a network or a terminal

Output stands in text blocks; one that follows a python block is what that block prints, the others nobody runs. A training command is
checked as it is written, then run with towers and folds made small.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from tiny_imagenet_layout import write_tiny_imagenet

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "README.zh-CN.md", ROOT / "configs/README.md", *sorted((ROOT / "docs").glob("*.md"))]
TRANSLATED = sorted((ROOT / "docs/zh").glob("*.md"))
LANGUAGES = {"python", "bash", "text", "json", "csv", "toml"}
MOST_NOT_RUN = 15
MOST_README_WORDS = 600

SAMPLES = {"digits": 60, "hip": 68, "pairs": 4}
SMALL = ["train.epochs=1", "data.num_workers=0", "data.batch_size=32", "runtime.device=cpu", "runtime.threads=1"]
SMALL_IMAGE = ["model.image_encoder=timm:test_resnet", "model.image_encoder.image_size=32"]
SMALL_TEXT = ["model.embed_dim=32", "model.text_encoder=bert"]
SMALL_TEXT += [f"model.text_encoder.{size}" for size in ("hidden_size=32", "num_layers=1", "num_heads=2")]
SHELL = ("cat", "cp", "ls", "mkdir", "mv", "rm")


@dataclass(frozen=True)
class Block:
    """A fenced block: its first line in the page, its language, its mark and the mark's argument, and its text."""

    line: int
    language: str
    mark: str
    argument: str
    text: str


def blocks(page: Path) -> list[Block]:
    found, start, language, above = [], None, "", ""
    lines = page.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        if start is None and line.lstrip().startswith("```"):
            start, language = number, line.strip()[3:]
            above = lines[number - 2].strip() if number > 1 else ""
        elif start is not None and line.strip() == "```":
            mark = re.fullmatch(r"<!-- (file|not run): (.+) -->", above)
            text = "\n".join(lines[start : number - 1]) + "\n"
            found.append(Block(start + 1, language, *(mark.groups() if mark else ("", "")), text))
            start = None
    assert start is None, f"{page}:{start}: the block does not end"
    return found


def commands(text: str) -> list[list[str]]:
    """The commands of a bash block as words, comments left out and continued lines joined."""
    lines = (shlex.split(line, comments=True) for line in text.replace("\\\n", " ").splitlines())
    return [words for words in lines if words]


class Page:
    """Runs the blocks of one page in one folder."""

    def __init__(self, path: Path, folder: Path, samples: Samples):
        self.path, self.folder, self.samples = path, folder, samples
        self.names: dict = {"__name__": "__main__"}
        self.printed = ""

    def run(self, block: Block) -> None:
        printed, self.printed = self.printed, ""
        if block.mark == "file":
            self.write(block)
        elif block.mark == "not run":
            assert len(block.argument) > 5, "say why"
        elif block.language == "python":
            code = compile("\n" * (block.line - 1) + block.text, str(self.path), "exec")
            with contextlib.redirect_stdout(io.StringIO()) as output:
                exec(code, self.names)
            self.printed = output.getvalue()
        elif block.language == "bash":
            for command in commands(block.text):
                self.command(command)
        elif block.language == "json":
            json.loads(block.text)
        elif block.language == "text" and printed:
            assert block.text == printed

    def write(self, block: Block) -> None:
        path = self.folder / block.argument
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text, encoding="utf-8")
        importlib.invalidate_caches()
        if path.parts[-3:-1] == ("configs", "clip"):
            checked(block.argument, [])

    def command(self, words: list[str]) -> None:
        while re.match(r"[A-Z_]+=", words[0]):
            name, _, value = words.pop(0).partition("=")
            os.environ[name] = value  # put back by the fixture
        if words[:2] == ["python", "tools/plain_train.py"]:
            self.plain_train(words[2:])
        elif words[0] == "python" and words[1].startswith("tools/"):
            self.clipzoo(Path(words[1]).stem, words[2:])
        elif words[0] == "clipzoo":
            self.clipzoo(words[1].replace("-", "_"), words[2:])
        elif words[:2] == ["bash", "tools/dist_train.sh"]:
            made = shell(words, {"PYTHON": "echo"}).split()
            self.clipzoo("train", [*made[made.index("tools/train.py") + 1 :], "--dry-run"], run=False)
        elif words[:2] == ["bash", "tools/dist_test.sh"]:
            made = shell(words, {"PYTHON": "echo"}).split()
            self.clipzoo("test", made[made.index("tools/test.py") + 1 :], run=False)
        elif words[:2] == ["bash", "tools/slurm_train.sh"]:
            made = shell(words, {"PATH": f"{srun(self.folder)}:{os.environ['PATH']}"}).split()
            self.clipzoo("train", [*made[made.index("tools/train.py") + 1 :], "--dry-run"], run=False)
        elif words[0] == "make":
            shell(["make", "-n", "-C", str(ROOT), *words[1:]])
        else:
            assert words[0] in SHELL, f"test_docs.py does not know how to run: {' '.join(words)}"
            shell(words)

    def clipzoo(self, name: str, arguments: list[str], run: bool = True) -> None:
        if name == "make_sample_data" and arguments[0] in SAMPLES:
            arguments = [*arguments, "--num-samples", str(SAMPLES[arguments[0]])]
            if "--seed" not in arguments:
                target = arguments[arguments.index("--out") + 1] if "--out" in arguments else f"data/{arguments[0]}"
                self.samples.copy(arguments[0], Path(target))
                return
        if name in ("train", "test", "baselines", "learning_curve"):
            arguments = small(arguments)
        if name == "fewshot" and arguments[0] == "train":
            arguments = ["train", *small(arguments[1:])]
        if name == "fewshot" and arguments[0] == "evaluate":
            arguments = [*arguments, "--shot", "1", "2", "--query", "3", "--episodes", "3"]
        if run:
            with pytest.raises(SystemExit) as end:
                importlib.import_module(f"clipzoo.cli.{name}").main(arguments)
            assert end.value.code == 0, f"{name} {' '.join(arguments)}"

    def plain_train(self, arguments: list[str]) -> None:
        sys.argv = ["plain_train.py", *arguments, "--epochs", "1", "--folds", "2", "--image-size", "16"]
        runpy.run_path("tools/plain_train.py", run_name="__main__")


class Samples:
    """Sample data, made once for all pages."""

    def __init__(self, folder: Path):
        self.folder = folder

    def copy(self, kind: str, target: Path) -> None:
        from clipzoo.datasets.samples.sample_data import create_sample_dataset

        if not (self.folder / kind).exists():
            create_sample_dataset(self.folder / kind, kind=kind, num_samples=SAMPLES[kind])
        shutil.copytree(self.folder / kind, target)


def shell(words: list[str], environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, **(environment or {})}, check=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
    return done.stdout


def srun(folder: Path) -> Path:
    """A folder with an ``srun`` that says what it would start."""
    program = folder / "bin" / "srun"
    program.parent.mkdir(exist_ok=True)
    program.write_text('#!/bin/sh\necho "$@"\n')
    program.chmod(0o755)
    return program.parent


def checked(config: str, options: list[str]):
    """Load and check a config as ``tools/train.py`` does before it builds anything."""
    from clipzoo.config import Config
    from clipzoo.config.checking import check
    from clipzoo.config.plugins import import_plugins

    loaded = Config.load(config, options)
    import_plugins(loaded.get("plugins", []))
    check(loaded)
    return loaded


def small(arguments: list[str]) -> list[str]:
    """The arguments of train or test with overrides that make towers and folds small, after the command was checked as it is written."""
    from clipzoo.registries import BACKBONES, HOOKS

    start = arguments.index("--cfg-options") + 1 if "--cfg-options" in arguments else len(arguments)
    stop = next((i for i in range(start, len(arguments)) if arguments[i].startswith("--")), len(arguments))
    config = checked(arguments[0], arguments[start:stop])
    ours = BACKBONES.get(BACKBONES.expand(config.model.image_encoder)["type"]).__module__.startswith("clipzoo.")
    options = [*SMALL, *(SMALL_IMAGE if ours else []), *(SMALL_TEXT if config.model.type == "CLIP" else [])]
    options += ["splits.num_folds=2"] if config.splits.type.endswith("Fold") else []
    if config.data.dataset.get("findings"):  # so that a val part has and lacks one of them
        options.append("splits.val_fraction=0.4")
    hooks = [HOOKS.expand(hook)["type"] for hook in config.get("hooks", [])]
    options += [f"hooks.{i}.confusion_every=0" for i, hook in enumerate(hooks) if hook == "TensorBoardHook"]
    options = options if start < stop else ["--cfg-options", *options]
    return [*arguments[:stop], *options, *arguments[stop:]]


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    return Samples(tmp_path_factory.mktemp("samples"))


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """A folder like a fresh clone; modules, registrations and variables that a page makes are gone afterwards."""
    from clipzoo.grid.running import Grid
    from clipzoo.models import clip_classifier
    from clipzoo.registries import TABLES

    for name in ("configs", "tools"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    for table in TABLES.values():
        len(table)  # load the home package now, so that its classes stay
        monkeypatch.setattr(table, "_classes", dict(table._classes))
    monkeypatch.setattr(Grid, "run", no_jobs)
    monkeypatch.setattr(clip_classifier, "CLIPVision", small_clip_tower)
    before, environment = set(sys.modules), dict(os.environ)
    yield tmp_path
    os.environ.clear()
    os.environ.update(environment)
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


def small_clip_tower(variant, pretrained, freeze):
    """In place of a published tower of that name."""
    from clipzoo.models.backbones import CLIPVision
    from clipzoo.models.weights.source import VISION

    assert variant in VISION
    sizes = {"image_size": 32, "patch_size": 16, "width": 64, "layers": 1, "heads": 1, "output_dim": 16}
    return CLIPVision(pretrained=False, freeze=freeze, **sizes)


def no_jobs(grid, slots):
    """In place of a process per job; ``grid`` has checked the config of every job by then."""
    from clipzoo.grid.running import Outcome

    return [Outcome(job, "skipped", 0.0, "checked only") for job in grid.jobs]


RUN = [page for page in PAGES if page.name != "README.zh-CN.md"]  # its blocks are those of README.md, as the next test says


@pytest.mark.slow
@pytest.mark.parametrize("path", RUN, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_block_runs(path, fresh, samples):
    found = blocks(path)
    text = path.read_text(encoding="utf-8")
    for kind in ("digits", "hip"):  # a page that does not make the sample data itself finds them there
        made = rf"^(python tools/make_sample_data.py|clipzoo make_sample_data) {kind}( --out data/{kind})?$"
        if kind in text and not re.search(made, text, re.MULTILINE):
            samples.copy(kind, fresh / "data" / kind)
    if "data/tiny-imagenet-200" in text:
        write_tiny_imagenet(fresh / "data/tiny-imagenet-200", 2, 1, names={f"n{k:08}": [f"name {k}"] for k in range(60)})
    page = Page(path, fresh, samples)
    for block in found:
        assert block.language in LANGUAGES, f"{path}:{block.line}: {block.language!r} is none of {sorted(LANGUAGES)}"
        page.run(block)


def test_both_readmes_show_the_same_blocks():
    english, chinese = (
        [(b.language, commands(b.text) if b.language == "bash" else b.text) for b in blocks(ROOT / name) if b.language != "text"]
        for name in ("README.md", "README.zh-CN.md")
    )
    assert chinese == english


def test_the_first_page_is_short():
    """And has what a visitor looks for: a picture, the commands, and a way in for each kind of data."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.split()) <= MOST_README_WORDS
    for words in ("](docs/images/", "make demo", "make test", "pip install", "your_own_data.md", "retrieval.md", "pretrained_weights.md"):
        assert words in text, words
    assert all(path.stat().st_size <= 100_000 for path in (ROOT / "docs/images").iterdir())


def test_few_blocks_are_not_run():
    marked = [f"{path.name}:{b.line} {b.argument}" for path in RUN for b in blocks(path) if b.mark == "not run"]
    assert len(marked) <= MOST_NOT_RUN, marked
    assert sum(b.language in ("python", "bash") and not b.mark for path in RUN for b in blocks(path)) > 3 * len(marked)


def outline(page: Path) -> dict[str, object]:
    """What a translation shares with its original: blocks with their marks, levels of headings, and cells of tables."""
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return {
        "blocks": [(block.language, block.mark, block.argument, block.text) for block in blocks(page)],
        "headings": [len(marks) for marks in re.findall(r"^(#+) ", text, re.MULTILINE)],
        "tables": [line.replace("\\|", "").count("|") for line in text.splitlines() if line.startswith("|")],
    }


@pytest.mark.parametrize("path", TRANSLATED, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_chinese_page_says_what_the_english_one_says(path):
    original = ROOT / "docs" / path.name
    english, chinese = outline(original), outline(path)
    for part, value in english.items():
        assert chinese[part] == value, f"{path}: its {part} differ from those of {original}"
    assert f"[English](../{path.name})" in path.read_text(encoding="utf-8").splitlines()[2]


def test_pages_of_users_exist_in_chinese():
    """All pages but those for people who change the code, and the glossary, which has both languages."""
    english_only = {"architecture.md", "from_old_scripts.md", "glossary.md", "reliability.md", "your_own_module.md"}
    assert {path.name for path in TRANSLATED} == {path.name for path in (ROOT / "docs").glob("*.md")} - english_only


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", [*PAGES, *TRANSLATED], ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)]*))?\)", path.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://")):
            continue
        page = path.parent / target if target else path
        assert page.exists(), f"{path}: {target}"
        assert not anchor or anchor in anchors(page), f"{path}: {target}#{anchor}"


def test_the_site_has_every_page():
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = [str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")]
    assert sorted(re.findall(r"[\w/-]+\.md", text)) == sorted(pages)


def test_tables_are_complete():
    """What exists in the code is in the page that lists it."""
    from clipzoo.cli import COMMANDS
    from clipzoo.config import SECTIONS
    from clipzoo.grid.jobs import OLD_KEYS, OTHER_OLD_KEYS
    from clipzoo.models import names

    def missing(page, words):
        text = (ROOT / page).read_text(encoding="utf-8")
        return [word for word in words if f"`{word}`" not in text]

    towers = [*names._IMAGE, *names._TEXT, "timm:<name>", "hf:<name or folder>"]
    assert not missing("docs/towers.md", towers)
    assert not missing("docs/commands.md", COMMANDS)
    assert not missing("docs/config_language.md", SECTIONS)
    assert not missing("docs/from_old_scripts.md", [*OLD_KEYS, *OTHER_OLD_KEYS])
    leaves = [path.stem for path in (ROOT / "configs").rglob("*.py") if "_base_" not in path.parts]
    assert not missing("configs/README.md", leaves)
