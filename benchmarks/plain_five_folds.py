"""A plain PyTorch script for five folds, of the kind that researchers write: what ``five_folds.py`` compares with. See there."""

from __future__ import annotations

import argparse
import copy
import json
from pathlib import Path

import numpy as np
import open_clip
import timm
import torch
from PIL import Image
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold, train_test_split
from torch import nn
from torch.utils.data import DataLoader, Subset
from torchvision import transforms
from torchvision.datasets import ImageFolder

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


class Captioned(torch.utils.data.Dataset):
    """Images of an ``ImageFolder``, each with its whole caption and its class."""

    def __init__(self, folder: ImageFolder, captions: torch.Tensor, transform):
        self.folder, self.captions, self.transform = folder, captions, transform

    def __len__(self) -> int:
        return len(self.folder)

    def __getitem__(self, index: int):
        path, label = self.folder.samples[index]
        return self.transform(Image.open(path).convert("RGB")), self.captions[label], label


class Model(nn.Module):
    """ResNet-18 and CLIP's text transformer with linear projections."""

    def __init__(self, width: int, text: dict):
        super().__init__()
        self.image = timm.create_model("resnet18", num_classes=width)
        self.text = open_clip.transformer.TextTransformer(**text, output_dim=width)
        self.logit_scale = nn.Parameter(torch.tensor(np.log(1 / 0.07), dtype=torch.float32))

    def forward(self, images, tokens):
        image = nn.functional.normalize(self.image(images), dim=-1)
        text = nn.functional.normalize(self.text(tokens), dim=-1)
        return image, text, self.logit_scale.exp()


def evaluate(model: Model, loader: DataLoader, captions: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities."""
    model.eval()
    labels, logits = [], []
    with torch.no_grad():
        classes = nn.functional.normalize(model.text(captions), dim=-1)
        for images, _, label in loader:
            image = nn.functional.normalize(model.image(images), dim=-1)
            logits.append(model.logit_scale.exp() * image @ classes.T)
            labels.append(label)
    return torch.cat(labels).numpy(), torch.cat(logits).softmax(dim=1).numpy()


def main() -> None:
    """Train and score five folds, and write the summary."""
    parser = argparse.ArgumentParser()
    parser.add_argument("task", type=json.loads)
    task = parser.parse_args().task
    torch.manual_seed(0)
    torch.set_num_threads(task["threads"])
    size = task["image_size"]
    common = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    augmented = [transforms.RandomRotation(10), transforms.ColorJitter(0.1, 0.1)]
    train_transform = transforms.Compose([transforms.Resize((size, size)), *augmented, *common])
    test_transform = transforms.Compose([transforms.Resize((size, size)), *common])
    folder = ImageFolder(task["data"])
    captions = open_clip.tokenize([f"a photo of a {name}" for name in folder.classes])
    train_data, test_data = (Captioned(folder, captions, transform) for transform in (train_transform, test_transform))
    labels, scores = np.array(folder.targets), []
    options = {"batch_size": task["batch_size"], "num_workers": task["num_workers"]}
    loss_function = open_clip.ClipLoss()
    for fold, (rest, test) in enumerate(StratifiedKFold(task["folds"], shuffle=True, random_state=42).split(labels, labels)):
        train, val = train_test_split(rest, test_size=0.1, stratify=labels[rest], random_state=42)
        model = Model(task["width"], task["text"])
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, task["epochs"])
        train_loader = DataLoader(Subset(train_data, train), shuffle=True, drop_last=True, **options)
        val_loader, test_loader = (DataLoader(Subset(test_data, rows), **options) for rows in (val, test))
        best, best_state = -1.0, None
        for epoch in range(task["epochs"]):
            model.train()
            for images, tokens, _ in train_loader:
                optimizer.zero_grad()
                loss = loss_function(*model(images, tokens))
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
            scheduler.step()
            truth, probabilities = evaluate(model, val_loader, captions)
            score = balanced_accuracy_score(truth, probabilities.argmax(axis=1))
            print(f"fold {fold + 1} epoch {epoch + 1}: loss {loss.item():.3f}, val {score:.3f}", flush=True)
            if score >= best:
                best, best_state = score, copy.deepcopy(model.state_dict())
                torch.save(best_state, Path(task["out"]) / f"fold_{fold + 1}.pth")
        model.load_state_dict(best_state)
        truth, probabilities = evaluate(model, test_loader, captions)
        areas = roc_auc_score(truth, probabilities, multi_class="ovr", labels=np.arange(len(folder.classes)))
        scores.append((accuracy_score(truth, probabilities.argmax(axis=1)), areas))
    mean, spread = np.mean(scores, axis=0), np.std(scores, axis=0)
    print(f"accuracy {mean[0]:.3f} ± {spread[0]:.3f}, AUROC {mean[1]:.3f} ± {spread[1]:.3f}")
    (Path(task["out"]) / "summary.json").write_text(json.dumps({"accuracy": mean[0], "auroc": mean[1]}), encoding="utf-8")


if __name__ == "__main__":
    main()
