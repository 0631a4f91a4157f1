"""What a file of a run was made from: a file of another fold, run, config or data in the right place would be a leak.

Every checkpoint and every result holds the digests below; whoever reads one compares them with what is expected.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from clipzoo.errors import CheckpointError

# What may differ between two starts of one experiment and changes nothing, to the bit.
FREE_KEYS = ("data.num_workers", "runtime.log_every", "runtime.save_every", "runtime.save_every_steps", "runtime.timeout")
# What may differ and changes the last digits, because sums are formed in another order: accepted, and noted in the summary.
ROUNDING_KEYS = ("data.eval_batch_size", "runtime.device", "runtime.threads", "runtime.feature_cache")
# Hooks that only watch, and may differ too; any other may end the training, which changes its results.
WATCHERS = ("ConsoleHook", "HistoryHook", "TensorBoardHook", "MetricsCSVHook", "ResultsHook")


def decisive(config: Mapping) -> dict:
    """What of a plain config decides the results, but for rounding."""
    free = (*FREE_KEYS, *ROUNDING_KEYS)
    hooks = [hook for hook in config.get("hooks", []) if (hook if isinstance(hook, str) else hook.get("type")) not in WATCHERS]
    kept = {}
    for section, values in config.items():
        if isinstance(values, Mapping):
            values = {key: value for key, value in values.items() if f"{section}.{key}" not in free}
        if values:
            kept[section] = values
    return {**kept, "hooks": hooks}


def digest_of(value: object) -> str:
    """SHA-256 of plain data, whatever the order of keys."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True)
class Provenance:
    """Of a fold's files.

    Attributes:
        fold: Name of the fold.
        config: Digest of what of the config is decisive.
        folds: Digest of all folds, as in ``folds.json``.
        data: Digest of the contents of the data: images, groups, labels, texts.
        earlier_data: Digests of what the data were before, where a change was accepted.
    """

    fold: str
    config: str
    folds: str
    data: str
    earlier_data: tuple[str, ...] = ()

    @classmethod
    def of(cls, config: Mapping, fold: str, folds: str, data: str = "", earlier_data: tuple[str, ...] = ()) -> Provenance:
        """Of a fold of a plain config."""
        return cls(fold=fold, config=digest_of(decisive(config)), folds=folds, data=data, earlier_data=earlier_data)

    def plain(self) -> dict[str, str]:
        """As it is kept in files."""
        return {"fold": self.fold, "config": self.config, "folds": self.folds, "data": self.data}

    def check(self, found: Mapping, where: object, advice: str) -> None:
        """Refuse a file of another fold, config, split or data.

        Args:
            found: What the file holds.
            where: The file, first words of a message.
            advice: Last sentence of a message.

        Raises:
            CheckpointError: With everything that differs.
        """
        own = self.plain()
        wrong = [name for name, value in own.items() if found.get(name) != value]
        if "data" in wrong and found.get("data") in self.earlier_data:
            wrong.remove("data")
        if wrong:
            fold = f"{found.get('fold')}, not {self.fold}"
            words = {"config": "another config", "folds": "other folds", "data": "other data", "fold": fold}
            raise CheckpointError(f"{where}: is of {' and of '.join(words[name] for name in wrong)}. {advice}")
