"""The same training as tools/train.py, as a library: no registry, no config, no hooks. Read it to see how the parts fit together.

python tools/plain_train.py data/digits/images --class-texts data/digits/class_texts.json --epochs 8
"""

import argparse

import numpy as np
import torch

from clipzoo.datasets.augmentations import MinimalAugmentation
from clipzoo.datasets.batches.epochs import EpochBatches
from clipzoo.datasets.batches.loader import eval_loader, train_loader
from clipzoo.datasets.batches.samplers import RandomSampler
from clipzoo.datasets.image_folder import ImageFolderDataset
from clipzoo.datasets.splitters import StratifiedGroupKFold
from clipzoo.datasets.transforms import evaluation_transform
from clipzoo.engine.evaluation import Compute, predict_cases
from clipzoo.engine.inputs import class_captions
from clipzoo.metrics import Accuracy, BalancedAccuracy
from clipzoo.models.backbones import ResNet
from clipzoo.models.clip import CLIP
from clipzoo.models.losses import MultiPositiveContrastiveLoss
from clipzoo.models.text_encoders import BERT
from clipzoo.optim import AdamW
from clipzoo.optim.schedules import CosineSchedule
from clipzoo.runtime.seeds import seed_everything


def train_fold(data, split, args, device):
    """Train on one fold and return the predictions of its test part."""
    seed_everything(args.seed)
    model = CLIP(
        image_encoder=ResNet(18, image_size=args.image_size),
        text_encoder=BERT(pretrained=False, pooling="mean", hidden_size=128, num_layers=2, num_heads=4),
        loss=MultiPositiveContrastiveLoss(),
    ).to(device)
    tokens = data.captions.tokenise(model.tokenizer, "BERT")
    rows = data.rows_of(split.train + split.val)  # the last epoch is scored, so nothing needs a val part
    batches = EpochBatches(data, rows, RandomSampler(), batch_size=args.batch_size, seed=args.seed)
    augment = MinimalAugmentation().build(model.preprocessing)
    loader = train_loader(data, batches, augment, tokens, all_captions=False, num_workers=args.num_workers, pin_memory=False)
    optimizer = AdamW(lr=args.lr, weight_decay=0.01).build(model)
    schedule, step = CosineSchedule(warmup_epochs=1), 0
    for epoch in range(args.epochs):
        model.train()
        batches.set_epoch(epoch)
        losses = []
        for batch in loader:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * schedule.factor(step, args.epochs * len(batches), len(batches))
            loss = sum(model(batch.to(device)).values())
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            model.after_step()
            losses.append(loss.detach())
            step += 1
        print(f"{split.name} epoch {epoch + 1}/{args.epochs}  loss {torch.stack(losses).mean():.4f}", flush=True)
    test = eval_loader(
        data, data.rows_of(split.test), evaluation_transform(model.preprocessing), batch_size=64, num_workers=0, pin_memory=False
    )
    return predict_cases(model, test, class_captions(data, tokens), len(data.classes), Compute(torch.device(device)))


def main():
    """Cross-validate, and score all out-of-fold predictions at once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", help="class folders")
    parser.add_argument("--class-texts", help="JSON: class -> description")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--num-workers", type=int, default=0)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=42)
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    data = ImageFolderDataset(args.root, class_texts=args.class_texts)
    folds = StratifiedGroupKFold(num_folds=args.folds, seed=args.seed).split(data.cases, data.classes)
    predictions = [train_fold(data, split, args, device) for split in folds.splits]
    labels = np.concatenate([p.labels for p in predictions])
    probabilities = np.concatenate([p.probabilities for p in predictions])
    assert sorted(np.concatenate([p.cases for p in predictions])) == list(range(len(data))), "every case exactly once"
    spread = [Accuracy().compute(p.labels, p.probabilities) for p in predictions]
    print(f"accuracy {np.mean(spread):.4f} ± {np.std(spread, ddof=1):.4f} over folds")
    for metric in (Accuracy(), BalancedAccuracy()):
        print(f"{metric.name} {metric.compute(labels, probabilities):.4f} pooled")


if __name__ == "__main__":
    main()
