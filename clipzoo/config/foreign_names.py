"""Names of other toolboxes, and what they are called here."""

from __future__ import annotations

# Names that users of OpenMMLab toolboxes may type, and their clipzoo equivalents.
FOREIGN_NAMES = {
    "optim_wrapper": "optimizer",
    "param_scheduler": "schedule",
    "lr_config": "schedule",
    "train_dataloader": "data",
    "val_dataloader": "data",
    "test_dataloader": "data",
    "train_cfg": "train",
    "val_cfg": "evaluation",
    "test_cfg": "evaluation",
    "val_evaluator": "evaluation",
    "test_evaluator": "evaluation",
    "default_hooks": "hooks",
    "custom_hooks": "hooks",
    "custom_imports": "plugins",
    "env_cfg": "runtime",
    "randomness": "runtime.seed",
    "backbone": "image_encoder",
    "max_epochs": "train.epochs",
    "num_epochs": "train.epochs",
    "learning_rate": "optimizer.lr",
    "data_root": "data.dataset.root",
    "n_splits": "splits.num_folds",
    "random_state": "splits.seed",
    "img_size": "model.image_encoder.image_size",
    "samples_per_gpu": "data.batch_size",
    "workers_per_gpu": "data.num_workers",
    "work_dir": "--work-dir on the command line",
}


def foreign_name(name: str) -> str:
    """Return a sentence that translates a name from another toolbox, or an empty string."""
    return f" In clipzoo, '{name}' is '{FOREIGN_NAMES[name]}'." if name in FOREIGN_NAMES else ""
