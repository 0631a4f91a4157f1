"""A splitter for existing folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from clipzoo.commands import typed
from clipzoo.config.arguments import FilePath
from clipzoo.datasets.splitters.base import Splitter
from clipzoo.errors import DataError, shortened
from clipzoo.records.folds import Case, Folds
from clipzoo.registries import SPLITTERS


@SPLITTERS.register_module()
@dataclass(frozen=True)
class FromFile(Splitter):
    """The folds of a ``folds.json``, after checking that it contains the same cases.

    All parts, including val, are as in the file. The notes state how the file was created.

    Args:
        path: Folds file, as written by ``tools/make_folds.py`` and found in every work dir.
        select_on_test: Whether the epoch is chosen on the test part (optimistic, and labelled so). Not read from the file.
    """

    path: FilePath

    def split(self, cases: Sequence[Case], classes: Sequence[str]) -> Folds:
        """The folds of the file.

        Raises:
            DataError: The file is unreadable or edited, or its cases, labels, groups or classes differ from the dataset's.
            LeakError: See ``Folds.verify``.
        """
        folds = Folds.read(self.path)
        differences = compare(folds, tuple(sorted(cases, key=lambda case: case.id)), tuple(classes))
        if differences:
            raise DataError(
                f"{self.path}: the cases of these folds differ from the dataset: {'; '.join(differences)}. "
                f"Restore the data, or create new folds with: {typed('make_folds')}"
            )
        made = ", ".join(f"{key}={value!r}" for key, value in folds.spec.items() if key != "type")
        origin = f"Read from {self.path}, made by {folds.spec.get('type', 'an unknown splitter')}({made})."
        spec = {"type": "FromFile", "path": str(self.path), "select_on_test": self.select_on_test}
        return replace(folds, spec=spec, notes=(origin, *folds.notes))


def compare(folds: Folds, cases: Sequence[Case], classes: Sequence[str]) -> list[str]:
    """The differences between the cases of ``folds`` and ``cases``, one phrase for each kind of difference."""
    then, now = ({case.id: case for case in some} for some in (folds.cases, cases))
    both = [i for i in then if i in now]
    found = {
        "classes missing from the dataset": [f"'{c}'" for c in folds.classes if c not in classes],
        "classes new in the dataset": [f"'{c}'" for c in classes if c not in folds.classes],
        "cases missing from the dataset": [f"'{i}'" for i in then if i not in now],
        "cases new in the dataset": [f"'{i}'" for i in now if i not in then],
        "changed labels": [
            f"'{i}' (was {_name(then[i].label, folds.classes)}, is {_name(now[i].label, classes)})"
            for i in both
            if _name(then[i].label, folds.classes) != _name(now[i].label, classes)
        ],
        "changed findings": [f"'{i}'" for i in both if then[i].findings != now[i].findings],
        "changed groups": [f"'{i}' (was '{then[i].group}', is '{now[i].group}')" for i in both if then[i].group != now[i].group],
        "changed parts": [f"'{i}' (was {then[i].part or 'none'}, is {now[i].part or 'none'})" for i in both if then[i].part != now[i].part],
    }
    differences = [f"{kind} ({len(names)}): {shortened(names, 3)}" for kind, names in found.items() if names]
    if not differences and tuple(classes) != folds.classes:
        differences.append(f"the order of classes differs: {shortened(folds.classes)} in the file, {shortened(classes)} in the dataset")
    return differences


def _name(label: int | None, classes: Sequence[str]) -> str:
    return "no class" if label is None else f"'{classes[label]}'"
