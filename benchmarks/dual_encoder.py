"""Images per second of a ViT x BERT: clipzoo, Hugging Face's Trainer on a VisionTextDualEncoder, and the image tower alone.

    python benchmarks/dual_encoder.py [--data FOLDER_OF_CLASS_FOLDERS]

``benchmarks/README.md`` says what is measured and what is not.
"""

from __future__ import annotations

import csv
import sys
import tempfile
from pathlib import Path

from racing import LARGEST_GRADIENT, LEARNING_RATE, WEIGHT_DECAY, WIDTH, Pass, Task, alone, arguments, race, run_of

IMAGE_TOWER = "vit_tiny_patch16_224"
VIT = dict(hidden_size=192, num_hidden_layers=12, num_attention_heads=3, intermediate_size=768)  # of IMAGE_TOWER
BERT = dict(hidden_size=256, num_layers=4, num_heads=4)
CONTEXT = 64
PEER, LIMIT = "HF Trainer", "image tower alone"


def clipzoo_run(task: Task, precision: str):
    """``run_of`` the towers of this benchmark."""
    return run_of(task, precision, {"name": IMAGE_TOWER}, {"type": "BERT", "pretrained": False, "max_length": CONTEXT, **BERT})


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
    config = VisionTextDualEncoderConfig.from_vision_text_configs(ViTConfig(image_size=task.image_size, **VIT), text, projection_dim=WIDTH)
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
    """``alone`` of the ViT."""
    import timm

    run = clipzoo_run(task, "fp32")  # its images, and its memory allocator
    tower = timm.create_model(IMAGE_TOWER, num_classes=0, img_size=task.image_size)
    return alone(tower, [batch.images for batch in run.train_loader], precision)


CONTENDERS = {"clipzoo": clipzoo_loop, PEER: trainer, LIMIT: image_tower}


def main(argv: list[str] | None = None) -> None:
    """Run, and print the table."""
    race(arguments(argv, __doc__, 32), CONTENDERS, "ViT-Ti/16 x BERT of 4 layers", "torch transformers timm clipzoo", PEER)


if __name__ == "__main__":
    sys.exit(main())
