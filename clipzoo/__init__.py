"""clipzoo: train and compare CLIP-like models on small labelled image sets, with honest cross-validation.

Nothing heavy is imported here: the public names below are looked up when they are first used.
"""

import importlib

__version__ = "0.1.0"

_PUBLIC = {
    "Config": "clipzoo.config",
    "ClipzooError": "clipzoo.errors",
    "Folds": "clipzoo.records.folds",
    "Registry": "clipzoo.config.registry",
    "Summary": "clipzoo.records.results",
    "TinyImageNetDataset": "clipzoo.datasets.tiny_imagenet",
    "CrossValidation": "clipzoo.engine.cross_validation",
    "Runner": "clipzoo.engine.runner",
    "CLIPClassifier": "clipzoo.models.clip_classifier",
    "ImageClassifier": "clipzoo.models.image_classifier",
    "create_dataloaders": "clipzoo.datasets.tiny_imagenet",
    "create_sample_dataset": "clipzoo.datasets.samples.sample_data",
    "load": "clipzoo.inference.load",
}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'clipzoo' has no attribute {name!r}")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
