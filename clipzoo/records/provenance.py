"""Provenance of a run's files: a file from another fold, run, config or dataset would be a leak.

Every checkpoint and result holds the digests below; readers compare them with the expected ones.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from clipzoo.errors import CheckpointError

# Keys that may differ between two starts of one experiment without any effect on the results.
FREE_KEYS = (
    *("data.num_workers", "data.check_images", "data.dataset.attributes", "evaluation.balance_baselines"),
    *("evaluation.operating_point", "evaluation.positive_class", "splits.num_repeats"),
    *("runtime.log_every", "runtime.save_every", "runtime.save_every_steps", "runtime.timeout", "runtime.report"),
    *("runtime.image_cache", "runtime.image_cache_gib"),
    "data.dataset.salt",
)
# Keys that may differ and only change rounding, because sums are formed in another order: accepted, and noted in the summary.
ROUNDING_KEYS = (
    *("data.eval_batch_size", "data.augment_on_device"),
    *("runtime.device", "runtime.threads", "runtime.feature_cache", "runtime.compile"),
)
# Hooks that only observe, and may differ too; any other hook may end the training, which changes its results.
WATCHERS = (
    *("ConsoleHook", "HistoryHook", "TensorBoardHook", "MetricsCSVHook", "ResultsHook"),
    *("WandbHook", "MLflowHook", "TrackioHook", "SwanLabHook"),
)


def decisive(config: Mapping) -> dict:
    """The part of a plain config that determines the results, up to rounding."""
    hooks = [hook for hook in config.get("hooks", []) if (hook if isinstance(hook, str) else hook.get("type")) not in WATCHERS]
    kept = {}
    for section, values in config.items():
        values = _without_free(values, section)
        if values:
            kept[section] = values
    return {**kept, "hooks": hooks}


def _without_free(value: object, path: str) -> object:
    if not isinstance(value, Mapping):
        return value
    inner = {key: f"{path}.{key}" for key in value}
    return {key: _without_free(value[key], where) for key, where in inner.items() if where not in (*FREE_KEYS, *ROUNDING_KEYS)}


def digest_of(value: object) -> str:
    """SHA-256 of plain data, independent of key order."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True)
class Provenance:
    """Provenance of a fold's files.

    Attributes:
        fold: Name of the fold.
        config: Digest of the decisive part of the config.
        folds: Digest of all folds, as in ``folds.json``.
        data: Digest of the data's contents: images, groups, labels, texts.
        earlier_data: Digests of earlier versions of the data whose change was accepted.
    """

    fold: str
    config: str
    folds: str
    data: str
    earlier_data: tuple[str, ...] = ()

    @classmethod
    def of(cls, config: Mapping, fold: str, folds: str, data: str = "", earlier_data: tuple[str, ...] = ()) -> Provenance:
        """The provenance of one fold, from a plain config."""
        return cls(fold=fold, config=digest_of(decisive(config)), folds=folds, data=data, earlier_data=earlier_data)

    def plain(self) -> dict[str, str]:
        """The form stored in files."""
        return {"fold": self.fold, "config": self.config, "folds": self.folds, "data": self.data}

    def check(self, found: Mapping, where: object, advice: str) -> None:
        """Refuse a file from another fold, config, split or dataset.

        Args:
            found: Provenance stored in the file.
            where: File name that starts the message.
            advice: Last sentence of the message.

        Raises:
            CheckpointError: The provenance differs; the message lists every difference.
        """
        own = self.plain()
        wrong = [name for name, value in own.items() if found.get(name) != value]
        if "data" in wrong and found.get("data") in self.earlier_data:
            wrong.remove("data")
        if wrong:
            fold = f"{found.get('fold')}, not {self.fold}"
            words = {"config": "another config", "folds": "other folds", "data": "other data", "fold": fold}
            raise CheckpointError(f"{where}: belongs to {' and to '.join(words[name] for name in wrong)}. {advice}")
