"""Images per second of CLIP training on class folders: clipzoo, open_clip's own trainer, and the image tower alone.

    python benchmarks/class_captions.py [--data FOLDER_OF_CLASS_FOLDERS]

ResNet-18 x the 12-layer text model of CLIP ViT-B/32, from scratch, AdamW, gradients clipped at norm 1, the same images in every pass.
``benchmarks/README.md`` says what is measured and what is not.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from racing import LARGEST_GRADIENT, LEARNING_RATE, WEIGHT_DECAY, WIDTH, Pass, Task, alone, arguments, race, run_of

IMAGE_TOWER = "resnet18"
TEXT = dict(context_length=77, vocab_size=49408, width=WIDTH, heads=8, layers=12)  # of CLIP ViT-B/32


def clipzoo_run(task: Task, precision: str, *, freeze_text: bool = False):
    """``run_of`` the towers of this benchmark."""
    return run_of(
        task, precision, {"name": IMAGE_TOWER}, {"type": "CLIPText", "variant": "ViT-B/32", "freeze": "all" if freeze_text else "none"}
    )


def clipzoo_loop(task: Task, precision: str) -> Pass:
    """``clipzoo.engine.loop.train_epoch``: files, loader, augmentation 'standard', step."""
    from clipzoo.engine import loop

    run = clipzoo_run(task, precision)
    return lambda: loop.train_epoch(run)


class _Built(Exception):
    """Carries what open_clip's ``main`` built out of it."""


def open_clip_trainer(task: Task, precision: str) -> Pass:
    """``open_clip_train.train.train_one_epoch`` with the arguments that ``open_clip_train.main.main`` itself gives it."""
    from unittest import mock

    import open_clip
    from open_clip_train import main as trainer

    model = f"{IMAGE_TOWER}_{task.image_size}"
    vision = dict(timm_model_name=IMAGE_TOWER, timm_model_pretrained=False, timm_pool="avg", timm_proj="linear", image_size=task.image_size)
    folder = Path(tempfile.mkdtemp(dir=task.scratch))
    (folder / f"{model}.json").write_text(json.dumps(dict(embed_dim=TEXT["width"], vision_cfg=vision, text_cfg=TEXT)), encoding="utf-8")
    open_clip.add_model_config(folder / f"{model}.json")
    options = {
        "model": model,
        "train-data": task.table,
        "dataset-type": "csv",
        "csv-separator": ",",
        "csv-img-key": "filepath",
        "csv-caption-key": "title",
        "precision": {"fp32": "fp32", "bf16": "amp_bf16"}[precision],
        "batch-size": task.batch_size,
        "workers": task.num_workers,
        "epochs": 1000,
        "lr": LEARNING_RATE,
        "wd": WEIGHT_DECAY,
        "grad-clip-norm": LARGEST_GRADIENT,
        "lr-scheduler": "const",
        "warmup": 0,
        "device": "cpu",
        "logs": folder,
        "name": "run",
    }

    def stop(*arguments, **keywords):
        raise _Built(arguments, keywords)

    try:
        with mock.patch.object(trainer, "train_one_epoch", stop):
            trainer.main([f"--{name}={value}" for name, value in options.items()])
    except _Built as built:
        arguments, keywords = built.args
        return lambda: trainer.train_one_epoch(*arguments, **keywords)
    raise RuntimeError("open_clip_train.main returned before it trained; is this open_clip_torch 3?")


def image_tower(task: Task, precision: str) -> Pass:
    """``alone`` of ResNet-18, on images in the memory order of convolutions."""
    import timm
    import torch

    run = clipzoo_run(task, "fp32")  # its images, and its memory allocator
    batches = [batch.images.contiguous(memory_format=torch.channels_last) for batch in run.train_loader]
    return alone(timm.create_model(IMAGE_TOWER, num_classes=0), batches, precision)


def clipzoo_frozen(task: Task, precision: str) -> Pass:
    """The same with a frozen text tower, which is encoded once."""
    from clipzoo.engine import loop

    run = clipzoo_run(task, precision, freeze_text=True)
    return lambda: loop.train_epoch(run)


CONTENDERS: dict[str, Callable[[Task, str], Pass]] = {
    "clipzoo": clipzoo_loop,
    "clipzoo, text frozen": clipzoo_frozen,
    "open_clip_train": open_clip_trainer,
    "image tower alone": image_tower,
}


def main(argv: list[str] | None = None) -> None:
    """Run, and print the table."""
    towers, packages = f"{IMAGE_TOWER} x CLIP text ViT-B/32", "torch open_clip_torch timm clipzoo"
    race(arguments(argv, __doc__, 64), CONTENDERS, towers, packages, "open_clip_train")


if __name__ == "__main__":
    sys.exit(main())
