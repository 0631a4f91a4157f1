"""Hooks observe a run: console, history, curves, pictures, early stopping, trackers. They are called in list order."""

from clipzoo.hooks.base import Hook
from clipzoo.hooks.console import ConsoleHook
from clipzoo.hooks.early_stopping import EarlyStoppingHook
from clipzoo.hooks.history import HistoryHook
from clipzoo.hooks.metrics_csv import MetricsCSVHook
from clipzoo.hooks.mlflow import MLflowHook
from clipzoo.hooks.results import ResultsHook
from clipzoo.hooks.swanlab import SwanLabHook
from clipzoo.hooks.tensorboard import TensorBoardHook
from clipzoo.hooks.tracker import Tracker
from clipzoo.hooks.trackio import TrackioHook
from clipzoo.hooks.wandb import WandbHook

__all__ = [
    "ConsoleHook",
    "EarlyStoppingHook",
    "HistoryHook",
    "Hook",
    "MLflowHook",
    "MetricsCSVHook",
    "ResultsHook",
    "SwanLabHook",
    "TensorBoardHook",
    "Tracker",
    "TrackioHook",
    "WandbHook",
]
