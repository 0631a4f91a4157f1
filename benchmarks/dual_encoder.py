"""Images per second of a ViT x BERT: clipzoo, Hugging Face's Trainer on a VisionTextDualEncoder, and the image tower alone.

    python benchmarks/dual_encoder.py [--data FOLDER_OF_CLASS_FOLDERS]

``benchmarks/README.md`` says what is measured and what is not.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from class_captions import (
    LARGEST_GRADIENT,
    LEARNING_RATE,
    TEMPLATE,
    WEIGHT_DECAY,
    Pass,
    Task,
    choose_images,
    draw_class_folders,
    machine,
    raced,
    report,
)

VIT = dict(hidden_size=192, num_hidden_layers=12, num_attention_heads=3, intermediate_size=768)  # timm's vit_tiny_patch16_224
BERT = dict(hidden_size=256, num_layers=4, num_heads=4)
CONTEXT, EMBED = 64, 512
PEER, LIMIT = "HF Trainer", "image tower alone"


def clipzoo_run(task: Task, precision: str):
    """A run as ``tools/train.py`` builds it, without folds, hooks and evaluation."""
    from rich.console import Console

    from clipzoo.config import Config
    from clipzoo.engine import build
    from clipzoo.records.folds import Split
    from clipzoo.records.provenance import Provenance
    from clipzoo.runtime.log import make_log

    config = Config.from_dict(
        {
            "model": {
                "type": "CLIP",
                "image_encoder": {"type": "TimmBackbone", "name": "vit_tiny_patch16_224", "image_size": task.image_size},
                "text_encoder": {"type": "BERT", "pretrained": False, "max_length": CONTEXT, **BERT},
                "embed_dim": EMBED,
            },
            "data": {
                "dataset": {"type": "ImageFolderDataset", "root": task.data, "template": TEMPLATE},
                "batch_size": task.batch_size,
                "num_workers": task.num_workers,
            },
            "splits": {"type": "Holdout"},
            "optimizer": {"type": "AdamW", "lr": LEARNING_RATE, "weight_decay": WEIGHT_DECAY},
            "train": {"epochs": 1000, "clip_grad": LARGEST_GRADIENT},
            "hooks": [],
            "runtime": {"device": "cpu", "precision": precision, "threads": task.threads, "image_cache": f"{task.scratch}/decoded"},
        },
        "dual_encoder",
    )
    console = Console(quiet=True)
    split = Split(name="fold_1", train=task.case_ids, val=(), test=())
    outputs = {"log": make_log(console, None), "console": console, "provenance": Provenance.of(config.plain(), "benchmark", "")}
    return build.run(config, build.dataset(config), split, Path(task.scratch), **outputs)


def clipzoo_loop(task: Task, precision: str) -> Pass:
    """``clipzoo.engine.loop.train_epoch``: files, loader, augmentation 'standard', step."""
    from clipzoo.engine import loop

    run = clipzoo_run(task, precision)
    return lambda: loop.train_epoch(run)


class Pairs:
    """Images and captions as transformers' example for contrastive training prepares them: padded to the whole context."""

    def __init__(self, task: Task, tokenizer):
        from torchvision.transforms import v2

        with open(task.table, encoding="utf-8", newline="") as stream:
            self.rows = list(csv.DictReader(stream))
        crop = v2.RandomResizedCrop(task.image_size, scale=(0.9, 1.0), antialias=True)
        self.transform = v2.Compose([v2.ToImage(), crop, v2.RandomHorizontalFlip(), *self.scaling()])
        texts = [row["title"] for row in self.rows]
        self.text = tokenizer(texts, max_length=CONTEXT, padding="max_length", truncation=True, return_tensors="pt")

    @staticmethod
    def scaling() -> list:
        """To [-1, 1]."""
        import torch
        from torchvision.transforms import v2

        return [v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * 3, [0.5] * 3)]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict:
        from PIL import Image

        pixels = self.transform(Image.open(self.rows[index]["filepath"]).convert("RGB"))
        return {"pixel_values": pixels, **{name: self.text[name][index] for name in ("input_ids", "attention_mask")}, "return_loss": True}


def collated(rows: list[dict]) -> dict:
    """A batch for ``VisionTextDualEncoderModel``."""
    import torch

    return {"return_loss": True, **{name: torch.stack([row[name] for row in rows]) for name in rows[0] if name != "return_loss"}}


def trainer(task: Task, precision: str) -> Pass:
    """``transformers.Trainer.train`` for one epoch, with the optimizer that is its fastest here."""
    import transformers
    from transformers import (
        BertConfig,
        BertTokenizerFast,
        Trainer,
        TrainingArguments,
        VisionTextDualEncoderConfig,
        VisionTextDualEncoderModel,
        ViTConfig,
    )

    from clipzoo.models.text_encoders.tokenizer import character_vocabulary

    transformers.utils.logging.set_verbosity_error()
    vocabulary = Path(tempfile.mkdtemp(dir=task.scratch)) / "vocab.txt"
    vocabulary.write_text("".join(f"{token}\n" for token in character_vocabulary()), encoding="utf-8")
    tokenizer = BertTokenizerFast(str(vocabulary))
    text = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=BERT["hidden_size"],
        num_hidden_layers=BERT["num_layers"],
        num_attention_heads=BERT["num_heads"],
        intermediate_size=4 * BERT["hidden_size"],
        max_position_embeddings=CONTEXT,
    )
    config = VisionTextDualEncoderConfig.from_vision_text_configs(ViTConfig(image_size=task.image_size, **VIT), text, projection_dim=EMBED)
    settings = TrainingArguments(
        output_dir=tempfile.mkdtemp(dir=task.scratch),
        per_device_train_batch_size=task.batch_size,
        num_train_epochs=1,
        learning_rate=LEARNING_RATE,
        weight_decay=WEIGHT_DECAY,
        max_grad_norm=LARGEST_GRADIENT,
        lr_scheduler_type="constant",
        optim="adamw_torch_fused",
        bf16=precision == "bf16",
        use_cpu=True,
        dataloader_num_workers=task.num_workers,
        dataloader_drop_last=True,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    made = Trainer(VisionTextDualEncoderModel(config), settings, train_dataset=Pairs(task, tokenizer), data_collator=collated)
    made.remove_callback(transformers.PrinterCallback)
    return lambda: made.train()


def image_tower(task: Task, precision: str) -> Pass:
    """Forward, backward and AdamW of the image tower on batches that are in memory: no files, no text, no contrastive loss."""
    import timm
    import torch

    run = clipzoo_run(task, "fp32")  # its images, and its memory allocator
    batches = [batch.images for batch in run.train_loader]
    del run
    tower = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=task.image_size).train()
    optimizer = torch.optim.AdamW(tower.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True)

    def one_pass() -> None:
        for images in batches:
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                features = tower(images)
            features.float().square().mean().backward()
            optimizer.step()

    return one_pass


CONTENDERS = {"clipzoo": clipzoo_loop, PEER: trainer, LIMIT: image_tower}


def main(argv: list[str] | None = None) -> None:
    """Run, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of class folders; default: draws JPEGs of 12 classes into a temporary folder")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--image-size", type=int, default=224, help="pixels")
    parser.add_argument("--steps", type=int, default=8, help="batches of one pass")
    parser.add_argument("--rounds", type=int, default=5, help="timed passes of each, in turns")
    parser.add_argument("--num-workers", type=int, default=0, help="loader processes of clipzoo and the Trainer")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())
    parser.add_argument("--smoke", action="store_true", help="two steps on tiny images: does it run?")
    args = parser.parse_args(argv)
    if args.smoke:
        args.batch_size, args.image_size, args.steps, args.rounds, args.threads = 4, 32, 2, 1, 1
    num_images = args.steps * args.batch_size
    with tempfile.TemporaryDirectory(prefix="dual_encoder_", ignore_cleanup_errors=True) as scratch:
        data = args.data or Path(scratch) / "images"
        if args.data is None:
            draw_class_folders(data, num_images, args.image_size)
        table = Path(scratch) / "captions.csv"
        ids = choose_images(data, table, num_images)
        task = Task(str(data), ids, str(table), scratch, args.batch_size, args.image_size, args.num_workers, args.threads)
        contenders = raced(CONTENDERS, task, args.rounds)
    packages = ("torch", "transformers", "timm", "clipzoo")
    print(f"{machine()}, {args.threads} threads; python {platform.python_version()}, " + ", ".join(f"{p} {version(p)}" for p in packages))
    print(f"ViT-Ti/16 x BERT of 4 layers, batch {args.batch_size}, {args.image_size} px, {args.rounds} x {args.steps} steps\n")
    print("\n".join(report(contenders, num_images, args.batch_size, PEER, LIMIT)))


if __name__ == "__main__":
    sys.exit(main())
