"""Packaging of clipzoo; the dependencies live in requirements/."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


def requirements(name: str) -> list[str]:
    """The requirement lines of requirements/<name>.txt, without comments."""
    lines = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def version() -> str:
    """The version written in clipzoo/__init__.py, read without importing the package."""
    text = (ROOT / "clipzoo" / "__init__.py").read_text(encoding="utf-8")
    return re.search(r'^__version__ = "(.+)"', text, re.MULTILINE).group(1)


setup(
    name="clipzoo",
    version=version(),
    description="Train and compare CLIP-like models on small labelled image sets with honest cross-validation",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    packages=find_packages(include=["clipzoo", "clipzoo.*"]),
    python_requires=">=3.10",
    install_requires=requirements("runtime"),
    extras_require={"optional": requirements("optional"), "tests": requirements("tests"), "docs": requirements("docs")},
    entry_points={"console_scripts": ["clipzoo = clipzoo.cli:main"]},
    classifiers=[
        "Programming Language :: Python :: 3",
        "License :: OSI Approved :: MIT License",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
