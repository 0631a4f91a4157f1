"""Packaging of clipzoo; the dependencies live in requirements/."""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent


def requirements(name: str) -> list[str]:
    """The requirement lines of requirements/<name>.txt, without comments."""
    lines = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def version() -> str:
    """The version written in clipzoo/__init__.py, read without importing the package."""
    text = (ROOT / "clipzoo" / "__init__.py").read_text(encoding="utf-8")
    return re.search(r'^__version__ = "(.+)"', text, re.MULTILINE).group(1)


class BuildWithConfigs(build_py):
    """Copies configs/ to clipzoo/configs/ of a wheel, where clipzoo/config/shipped.py looks first.

    They are copied, not declared as a package clipzoo.configs: they are data that nobody imports (r18_…_frozen-text.py is no module name).
    In the repository they stay at the top level, where users type their paths; an editable install copies nothing and reads them there.
    """

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib) / "clipzoo" / "configs"
        shutil.rmtree(target, ignore_errors=True)  # what an earlier build left may be renamed by now
        shutil.copytree(ROOT / "configs", target, ignore=shutil.ignore_patterns("__pycache__", ".*"))


setup(
    name="clipzoo",
    version=version(),
    description="Train and compare CLIP-like models on small labelled image sets with honest cross-validation",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    packages=find_packages(include=["clipzoo", "clipzoo.*"]),
    package_data={"clipzoo": ["py.typed", "report/*.jinja", "serving/*.jinja"]},
    cmdclass={"build_py": BuildWithConfigs},
    python_requires=">=3.10",
    install_requires=requirements("runtime"),
    extras_require={name: requirements(name) for name in ("optional", "medical", "tests", "docs")},
    entry_points={"console_scripts": ["clipzoo = clipzoo.cli:main"]},
    classifiers=[
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
)
