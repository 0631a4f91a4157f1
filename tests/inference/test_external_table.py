import pytest
from tiny import tiny_config

from clipzoo.config import Config
from clipzoo.datasets import ImageFolderDataset, TableDataset
from clipzoo.datasets.splitters import KFold
from clipzoo.errors import DataError
from clipzoo.inference.rescoring import external_cases


@pytest.fixture
def folds(class_folders):
    data = ImageFolderDataset(str(class_folders))
    return KFold(num_folds=2).split(data.cases, data.classes)


def test_a_table_is_scored_with_the_classes_of_the_model(class_folders, folds, tmp_path):
    rows = [f"{path},x,{path.parent.name}" for path in sorted(class_folders.rglob("00*.png"))]
    (tmp_path / "t.csv").write_text("\n".join(["图像,诊断,型号", *rows]), encoding="gbk")
    named = {"type": "TableDataset", "path": "elsewhere.xlsx", "label_key": "型号"}
    config = Config.from_dict(tiny_config(class_folders, data={"dataset": named}), "named")
    data = external_cases(config, folds, str(tmp_path / "t.csv"))
    assert isinstance(data, TableDataset) and data.classes == folds.classes and len(data) == 30
    with pytest.raises(DataError, match=r"t\.csv:2: unknown label 'x'\. Classes: "):
        external_cases(Config.from_dict(tiny_config(class_folders), "folders"), folds, str(tmp_path / "t.csv"))
    assert isinstance(external_cases(config, folds, str(class_folders)), ImageFolderDataset)
