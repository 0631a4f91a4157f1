"""Bad inputs: each gives one clear line and exit status 2, no traceback, and leaves everything on disk as it was."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from dicom_files import write_dicom
from tiny import write_class_folders

from clipzoo.records.json_records import read_plain, write_record
from clipzoo.records.sealed import seal


@dataclass
class Place:
    """Where one bad input is prepared: a folder of its own, the tiny config, class folders, a finished work dir to copy."""

    folder: Path
    config: Callable[..., Path]
    finished: Path

    def train(self, *arguments: object, root: Path | None = None, text: str = "", **sections) -> list:
        """``train CONFIG --work-dir work`` with changed sections."""
        return ["train", self.config(root, text=text, **sections), "--work-dir", self.folder / "work", *arguments]

    def images(self, per_class: int = 4) -> Path:
        """Class folders to damage."""
        return write_class_folders(self.folder / "images", per_class=per_class)

    def file(self, name: str, text: str) -> Path:
        """A text file."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def texts(self, content: object) -> list:
        """Train with class descriptions."""
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
        root = self.images()
        path = self.file("texts.json", text)
        return self.train(root=root, data={"dataset": {"type": "ImageFolderDataset", "root": str(root), "class_texts": str(path)}})

    def work(self) -> Path:
        """A copy of the finished work dir."""
        return Path(shutil.copytree(self.finished, self.folder / "work"))

    def unfinished(self) -> Path:
        """The same, as a run leaves it that was killed before the result of its first fold: its checkpoint."""
        work = self.work()
        for name in ("fold_1/result.json", "cv_summary.json", "oof_predictions.csv"):
            (work / name).unlink()
        return work / "fold_1" / "checkpoint_latest.pth"


TEXTS = {"方块": "一个方块", "圆": "一个圆", "条纹": "一些条纹"}
BAD: dict[str, tuple[Callable[[Place], list], str]] = {}


def bad(*messages: str, lines: int = 1, makes: bool = False) -> Callable:
    """Register a bad input.

    Args:
        messages: What the message must contain.
        lines: How many lines it has; 0 for any number.
        makes: Training has started by the time it is noticed, so that a new work dir may be there.
    """

    def register(prepare: Callable[[Place], list]) -> Callable:
        BAD[prepare.__name__] = (prepare, messages, lines, makes)
        return prepare

    return register


# --- configs ---------------------------------------------------------------------------------------------------------------------------


@bad("model: CLIP has no argument 'embde_dim'. Did you mean 'embed_dim'?", "tiny.py")
def mistyped_key(place: Place) -> list:
    return place.train(model={"embde_dim": 32})


@bad("model.loss: unknown loss 'ContrastivLoss'. Did you mean 'ContrastiveLoss'?", "tiny.py")
def mistyped_type(place: Place) -> list:
    return place.train(model={"loss": {"type": "ContrastivLoss"}})


@bad("model.image_encoder: TimmBackbone has no argument 'image_sise'. Did you mean 'image_size'?", "tiny.py")
def mistyped_argument(place: Place) -> list:
    return place.train(model={"image_encoder": {"type": "TimmBackbone", "name": "resnet10t", "image_sise": 32}})


@bad("model.embed_dim: 'wide' is not a whole number")
def wrong_type_of_an_argument(place: Place) -> list:
    return place.train(model={"embed_dim": "wide"})


@bad(
    "model.image_encoder.image_size: -5", "model.temperature: 7", "splits.val_fraction: 3", "optimizer.lr: -1", "warmup_epochs: -3", lines=5
)
def five_values_out_of_their_ranges_at_once(place: Place) -> list:
    values = ["optimizer.lr=-1", "schedule.type=CosineSchedule", "schedule.warmup_epochs=-3", "model.temperature=7"]
    return place.train("--cfg-options", *values, "splits.val_fraction=3", "model.image_encoder.image_size=-5")


@bad("runtime.threads: 100000 is not a whole number from 1 to 1024 or None")
def threads_that_the_machine_cannot_make(place: Place) -> list:
    return place.train("--cfg-options", "runtime.threads=100000")


@bad("data.num_workers: 1000 is not a whole number from 0 to 256")
def workers_that_the_machine_cannot_make(place: Place) -> list:
    return place.train("--cfg-options", "data.num_workers=1000")


@bad("data.batch_size: ", "9223372036854775808 does not fit a 64-bit integer")
def a_batch_size_beyond_64_bits(place: Place) -> list:
    return place.train("--cfg-options", f"data.batch_size={2**63}")


@bad("schedule.warmup_epochs: 1e+308 is not a number from 0 to 1000000")
def a_warm_up_beyond_all_steps(place: Place) -> list:
    return place.train("--cfg-options", "schedule.type=CosineSchedule", "schedule.warmup_epochs=1e308")


@bad("runtime.device: no device 'cuda:²' on this machine. Available: ")
def a_device_that_is_no_number(place: Place) -> list:
    return place.train("--cfg-options", "runtime.device=cuda:²")


@bad("data.dataset.template: ", "contains {class_name:>999999999}")
def a_template_with_a_format(place: Place) -> list:
    return place.train("--cfg-options", "data.dataset.template={class_name:>999999999}")


@bad("data.dataset.root: ", "is not a path")
def a_folder_whose_name_is_too_long(place: Place) -> list:
    return place.train("--cfg-options", "data.dataset.root=" + "x" * 5000)


@bad("the home folder for '~nobody-of-this-name' is unknown")
def a_folder_of_an_unknown_user(place: Place) -> list:
    return place.train("--cfg-options", "data.dataset.root=~nobody-of-this-name/images")


@bad("model: CLIP has no argument 'temprature'. Did you mean 'temperature'?", "train.epochs: 'many' is not a whole number", lines=2)
def two_mistakes_at_once(place: Place) -> list:
    return place.train(model={"temprature": 0.1}, train={"epochs": "many"})


@bad("train.epochs: 0 is not a whole number from 1 to 1000000")
def argument_out_of_range(place: Place) -> list:
    return place.train(train={"epochs": 0})


@bad("unknown section 'optimiser'. Did you mean 'optimizer'?")
def unknown_section(place: Place) -> list:
    return place.train(text="\noptimiser = dict(lr=1)\n")


@bad("In clipzoo, 'optim_wrapper' is 'optimizer'")
def name_of_mmlab(place: Place) -> list:
    return place.train(text="\noptim_wrapper = dict(type='AdamW')\n")


@bad("splits: missing section")
def missing_section(place: Place) -> list:
    return ["train", place.file("short.py", "model = dict(type='CLIP', image_encoder='resnet18', text_encoder='bert')\n"
                                "data = dict(dataset=dict(type='ImageFolderDataset', root='x'))\n")]  # fmt: skip


@bad("tinny.py: no such config file", "Did you mean 'tiny.py'")
def missing_config(place: Place) -> list:
    place.train()
    return ["train", place.folder / "tinny.py"]


@bad("broken.py", "not valid Python")
def syntax_error(place: Place) -> list:
    return ["train", place.file("broken.py", "model = dict(\n")]


@bad("raises.py:2: ZeroDivisionError")
def config_that_raises(place: Place) -> list:
    return ["train", place.file("raises.py", "x = 0\ny = 1 / x\n")]


@bad("train.epochs: two bases disagree, 3 (", "a.py:1) and 4 (", "b.py:1)")
def bases_that_disagree(place: Place) -> list:
    place.file("a.py", "train = dict(epochs=3)\n")
    place.file("b.py", "train = dict(epochs=4)\n")
    return ["train", place.file("leaf.py", "_base_ = ['a.py', 'b.py']\n")]


@bad("--cfg-options: 'epochs' is not of the form key.path=value")
def override_without_value(place: Place) -> list:
    return place.train("--cfg-options", "epochs")


@bad("--cfg-options: unknown section 'trian'. Did you mean 'train'?")
def override_of_an_unknown_section(place: Place) -> list:
    return place.train("--cfg-options", "trian.epochs=3")


@bad("train: section 'train' has no argument 'epoch'. Did you mean 'epochs'?", "[--cfg-options]")
def override_of_an_unknown_key(place: Place) -> list:
    return place.train("--cfg-options", "train.epoch=3")


@bad("plugins: 'no_such_package': cannot be imported")
def missing_plugin(place: Place) -> list:
    return place.train(plugins=["no_such_package"])


@bad("_base_ must be a path or a list of paths, not 3")
def base_that_is_no_path(place: Place) -> list:
    return ["train", place.file("leaf.py", "_base_ = 3\n")]


@bad("configs: a folder, not a config file")
def folder_as_config(place: Place) -> list:
    return ["train", place.file("configs/a.py", "").parent]


@bad("raises.py:1: SystemExit: 3")
def config_that_exits(place: Place) -> list:
    return ["train", place.file("raises.py", "raise SystemExit(3)\n")]


@bad("data.batch_size: batches of 1 have nothing to contrast with", "CaptionCrossEntropyLoss")
def batches_of_one(place: Place) -> list:
    return place.train(data={"batch_size": 1})


@bad("TimmBackbone: image_size=50 is not a multiple of the patch size 16")
def image_size_that_patches_do_not_fill(place: Place) -> list:
    return place.train(model={"image_encoder": {"type": "TimmBackbone", "name": "test_vit", "image_size": 50}})


@bad("optimizer.lr: -1 is not a number above 0")
def negative_learning_rate(place: Place) -> list:
    return place.train("--cfg-options", "optimizer.lr=-1")


@bad("model.loss: ContrastiveLoss has no argument 'temprature'")
def argument_of_a_class_without_arguments(place: Place) -> list:
    return place.train(model={"loss": {"type": "ContrastiveLoss", "temprature": 0.1}})


@bad("model.image_encoder: None is not allowed; an image encoder is required")
def nothing_where_a_tower_is_needed(place: Place) -> list:
    return place.train("--cfg-options", "model.image_encoder=None")


@bad("evaluation.metrics: expected a list, not 'Accuracy'")
def one_where_a_list_is_needed(place: Place) -> list:
    return place.train(evaluation={"metrics": "Accuracy"})


@bad("clip/r18_bertzh_digit_5fold: no such config file. Did you mean 'clip/r18_bertzh_digits_5fold'?")
def mistyped_shipped_config(place: Place) -> list:
    return ["train", "clip/r18_bertzh_digit_5fold"]


@bad("data/digits/images: no such folder. To make this sample data: clipzoo make_sample_data digits")
def sample_data_not_made(place: Place) -> list:
    return ["train", "clip/r18_bertzh_digits_5fold"]


# --- data ------------------------------------------------------------------------------------------------------------------------------


@bad("nowhere: no such folder", "one folder per class", "class A/", "clipzoo make_sample_data digits", lines=0)
def missing_data_folder(place: Place) -> list:
    return place.train(root=place.folder / "nowhere")


@bad("空: no images in the class folder, it is empty", "Add images or remove the folder")
def empty_class_folder(place: Place) -> list:
    root = place.images()
    (root / "空").mkdir()
    return place.train(root=root)


@bad("every class must have at least 2", "'圆' has 1", "Add images, remove the class folder")
def class_of_one_image(place: Place) -> list:
    root = place.images()
    for path in sorted((root / "圆").iterdir())[1:]:
        path.unlink()
    return place.train(root=root)


@bad("圆/000.jpg", "cannot be decoded", "replace or remove it", makes=True)
def corrupt_jpeg(place: Place) -> list:
    from PIL import Image

    root = place.images()
    path = root / "圆" / "000.jpg"
    Image.open(root / "圆" / "000.png").resize((200, 200)).save(path)
    path.write_bytes(path.read_bytes()[:1500])
    return place.train(root=root)


@bad("圆/000.png: the file is empty (zero bytes)")
def empty_file(place: Place) -> list:
    root = place.images()
    (root / "圆" / "000.png").write_bytes(b"")
    return place.train(root=root)


@bad("三角: broken link to", "Remove or fix it")
def class_folder_that_is_a_dangling_link(place: Place) -> list:
    root = place.images()
    (root / "三角").symlink_to(place.folder / "unplugged" / "三角")
    return place.train(root=root)


@bad("the file name is not UTF-8, possibly GBK '正位.png'", "convmv -f gbk -t utf8 -r --notest", "unzip -O cp936")
def file_name_in_gbk(place: Place) -> list:
    root = place.images()
    with open(os.fsencode(root / "圆") + b"/" + "正位.png".encode("gbk"), "wb"):
        pass
    return place.train(root=root)


@bad("texts.json:1 and :3: duplicate key '圆' in one object. Keep one of them")
def class_described_twice(place: Place) -> list:
    return place.texts('{"圆": "一个圆",\n"方块": "一个方块", "条纹": "一些条纹",\n"圆": "别的"}')


@bad("folds: '../../up' is not a valid fold name")
def fold_called_like_a_path(place: Place) -> list:
    content = json.loads((place.finished / "folds.json").read_text(encoding="utf-8"))
    content["folds"][0]["name"] = "../../up"
    path = place.folder / "folds.json"
    write_record(path, {key: value for key, value in content.items() if key != "sha256"})
    return place.train(text=f"\nsplits = dict(type='FromFile', path={str(path)!r})\n")


@bad("圆/notes.jpg: not an image, whatever its name says")
def text_called_jpg(place: Place) -> list:
    root = place.images()
    (root / "圆" / "notes.jpg").write_text("a shopping list", encoding="utf-8")
    return place.train(root=root)


@bad("the same image is in class")
def same_image_in_two_classes(place: Place) -> list:
    root = place.images()
    shutil.copy(root / "圆" / "000.png", root / "方块" / "999.png")
    return place.train(root=root)


@bad("texts.json:1: not valid JSON")
def bad_json(place: Place) -> list:
    return place.texts('{"圆": "一个圆",}')


@bad("texts.json: describes '三角', but there is no such class folder")
def description_of_an_unknown_class(place: Place) -> list:
    return place.texts({**TEXTS, "三角": "一个三角"})


@bad("texts.json: no description for class '圆'")
def class_without_description(place: Place) -> list:
    return place.texts({name: text for name, text in TEXTS.items() if name != "圆"})


@bad("splits.num_folds: 99 folds need at least as many", "12")
def more_folds_than_cases(place: Place) -> list:
    return place.train(root=place.images(), splits={"num_folds": 99})


@bad("splits.type: KFold would split groups", "StratifiedGroupKFold")
def patient_on_two_sides(place: Place) -> list:
    root = place.images()
    dataset = {"type": "ImageFolderDataset", "root": str(root), "group_pattern": r"(\d\d)\d"}
    return place.train(root=root, data={"dataset": dataset}, splits={"type": "KFold"})


@bad("folds.json: the cases of these folds differ from the dataset")
def folds_of_other_cases(place: Place) -> list:
    splits = {"type": "FromFile", "path": str(place.finished / "folds.json")}
    path = place.folder / "other.py"
    place.config(place.images(), name="other.py")
    text = path.read_text(encoding="utf-8") + f"\nsplits = {splits!r}\n"
    return ["train", place.file("other.py", text), "--work-dir", place.folder / "work"]


@bad("evaluation.select: 'acuracy' is not among the metrics. Did you mean 'accuracy'?")
def unknown_metric_to_select(place: Place) -> list:
    return place.train(evaluation={"select": "acuracy"})


# --- tables and DICOM ------------------------------------------------------------------------------------------------------------------


def table(place: Place, content: str | bytes, name: str = "标注.csv", **arguments) -> list:
    """Train with a table of the images in ``images/``."""
    place.images()
    path = place.folder / "images" / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("gbk"))
    return place.train(data={"dataset": {"type": "TableDataset", "path": str(path), **arguments}})


@bad("标注.xlsx: the workbook is encrypted. Open it in Excel, remove its password and save it again")
def a_workbook_with_a_password(place: Place) -> list:
    return table(place, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504) + "EncryptedPackage".encode("utf-16-le"), "标注.xlsx")


@bad("标注.csv:1: no column '标签名' (data.dataset.label_key). Did you mean '标签'? Columns: 路径, 标签")
def a_column_that_the_table_lacks(place: Place) -> list:
    return table(place, "路径,标签\n圆/000.png,圆\n", label_key="标签名")


@bad("标注.csv:3: unknown label '园'.", "Classes: 圆, 方块")
def a_label_that_is_no_class(place: Place) -> list:
    return table(place, "路径,标签\n圆/000.png,圆\n圆/001.png,园\n", classes=["圆", "方块"])


@bad("标注.csv:3: '圆\\000.png' has the label '方块' here, but '圆' in row 2. Keep one of them")
def an_image_with_two_labels(place: Place) -> list:
    return table(place, "路径,标签\n圆/000.png,圆\n圆\\000.png,方块\n")


@bad("标注.csv:3: duplicate path: './圆/000.png' is already in row 2. Remove one of the rows")
def an_image_with_two_rows(place: Place) -> list:
    return table(place, "路径,标签\n圆/000.png,圆\n./圆/000.png,圆\n")


@bad("圆/SR0001: a DICOM file, Basic Text SR, without pixels. Remove it from the images")
def a_report_among_the_images(place: Place) -> list:
    root = place.images()
    write_dicom(root / "圆" / "SR0001", np.zeros((2, 2), np.uint8), Rows=None, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11")
    return place.train(root=root)


@bad("圆/cine.dcm: has 3 frames, not one. Set data.dataset.frame to the number of one, from 1, or extract the one that you need")
def a_film_among_the_images(place: Place) -> list:
    root = place.images()
    write_dicom(root / "圆" / "cine.dcm", np.zeros((3, 2, 2), np.uint8))
    return place.train(root=root)


# --- towers and weights ----------------------------------------------------------------------------------------------------------------


@bad("unknown image encoder 'resnet19'. Did you mean 'resnet18'?", "starnet_s1")
def unknown_tower(place: Place) -> list:
    return place.train(model={"image_encoder": "resnet19"})


@bad("starnet_s050", "timm has no published weights", "starnet_s1")
def tower_without_published_weights(place: Place) -> list:
    return place.train(model={"image_encoder": "starnet_s050:pretrained"})


@bad("resnet18", "Three ways", "HF_ENDPOINT", "pretrained=False")
def image_weights_without_network(place: Place) -> list:
    return place.train(model={"image_encoder": "resnet18:pretrained"})


@bad("bert-base-chinese", "Three ways", "HF_ENDPOINT", "pretrained=False")
def bert_weights_without_network(place: Place) -> list:
    return place.train(model={"text_encoder": "bert-base-chinese"})


@bad("ViT-B", "Three ways", "HF_ENDPOINT", "pretrained=False")
def clip_weights_without_network(place: Place) -> list:
    return place.train(model={"text_encoder": "clip:ViT-B/32"})


@bad("weights.pth", "no weights file")
def missing_weights_file(place: Place) -> list:
    tower = {"type": "TimmBackbone", "name": "resnet10t", "pretrained": str(place.folder / "weights.pth")}
    return place.train(model={"image_encoder": tower})


# --- machine and work dir --------------------------------------------------------------------------------------------------------------


@bad("runtime.device: no device 'cuda:7' on this machine. Available: cpu")
def absent_gpu(place: Place) -> list:
    return place.train("--cfg-options", "runtime.device=cuda:7")


@bad("--launcher pytorch: RANK", "torchrun --nproc_per_node NUM_PROCESSES -m clipzoo.cli train CONFIG")
def launcher_without_torchrun(place: Place) -> list:
    return place.train("--launcher", "pytorch")


@bad("a_file/work: not writable", "--work-dir")
def unwritable_work_dir(place: Place) -> list:
    place.file("a_file", "")
    return ["train", place.config(), "--work-dir", place.folder / "a_file" / "work"]


@bad("work: not empty, and not a work dir of clipzoo (it holds thesis.tex)", "--work-dir")
def foreign_work_dir(place: Place) -> list:
    place.file("work/thesis.tex", "years of work")
    return place.train()


@bad("work: made with another config", "train.epochs: 2 -> 3", "--work-dir")
def work_dir_of_another_config(place: Place) -> list:
    place.work()
    return place.train(train={"epochs": 3})


@bad("work: made with other folds", "1 case is missing (方块/000.png)", "restore the data")
def work_dir_of_other_data(place: Place) -> list:
    root = place.images(per_class=12)
    arguments = place.train(root=root)
    Path(root / "方块" / "000.png").unlink()
    work = place.work()
    known = read_plain(work / "config.json", "")
    known["config"]["data"]["dataset"]["root"] = str(root)
    write_record(work / "config.json", known)
    return arguments


@bad("work/fold_1/checkpoint_latest.pth: truncated", "to train that fold again")
def truncated_checkpoint(place: Place) -> list:
    path = place.unfinished()
    path.write_bytes(path.read_bytes()[:5000])
    return place.train()


@bad("work/fold_1/checkpoint_best.pth: truncated", "to train that fold again")
def truncated_checkpoint_in_a_test(place: Place) -> list:
    path = place.work() / "fold_1" / "checkpoint_best.pth"
    path.write_bytes(path.read_bytes()[:-3000])
    return ["test", place.config(), place.folder / "work"]


@bad(
    "work/fold_1/checkpoint_latest.pth: the weights belong to another model",
    "missing",
    "of another shape",
    "Use the config it was trained with",
)
def checkpoint_of_another_model(place: Place) -> list:
    import torch

    path = place.unfinished()
    content = torch.load(path, weights_only=True)
    first, second, *_ = content["model"]
    del content["model"][first]
    content["model"][second] = torch.zeros(3)
    torch.save(content, path)
    seal(path)
    return place.train()


@bad("work/config.json", "not valid JSON", "Choose another folder with --work-dir")
def damaged_work_dir(place: Place) -> list:
    path = place.work() / "config.json"
    path.write_text(path.read_text(encoding="utf-8")[:100], encoding="utf-8")
    return place.train()


# --- command lines ---------------------------------------------------------------------------------------------------------------------


@bad("--fold: there is no fold 9; folds are numbered 1 … 3")
def fold_that_is_not(place: Place) -> list:
    return place.train("--fold", 9)


@bad("--fold: invalid int value: 'three'")
def fold_that_is_no_number(place: Place) -> list:
    return place.train("--fold", "three")


@bad("no command 'trian'. Did you mean 'train'?")
def unknown_command(place: Place) -> list:
    return ["trian", place.config()]


@bad("--workdir", "Did you mean '--work-dir'?")
def unknown_option(place: Place) -> list:
    return ["train", place.config(), "--workdir", "x"]


@bad("CONFIG")
def no_config(place: Place) -> list:
    return ["train"]


@bad("images: not a work dir of clipzoo", "Pass a work dir made by clipzoo train")
def scoring_no_work_dir(place: Place) -> list:
    return ["test", place.config(), place.images()]


@bad("nowhere: no such folder")
def scoring_nothing(place: Place) -> list:
    return ["test", place.config(), place.folder / "nowhere"]


@bad("work: fold_1 not trained yet. Run clipzoo train first")
def scoring_an_unfinished_run(place: Place) -> list:
    place.unfinished()
    return ["test", place.config(), place.folder / "work"]


@bad("work: not all folds are finished yet (finished: fold_2, fold_3)", "Run clipzoo train to continue")
def summary_of_an_unfinished_run(place: Place) -> list:
    place.unfinished()
    return ["summary", place.folder / "work"]


@bad("三角: unknown class", "方块")
def external_images_of_an_unknown_class(place: Place) -> list:
    place.work()
    root = write_class_folders(place.folder / "external", classes=("圆", "三角"), per_class=2)
    return ["test", place.config(), place.folder / "work", "--data", root]


@bad("36 images are byte-identical with images of", "--allow-overlap")
def external_images_that_were_trained_on(place: Place) -> list:
    place.work()
    config = place.config()
    root = config.read_text(encoding="utf-8").split("'root': '")[1].split("'")[0]
    return ["test", config, place.folder / "work", "--data", root]


@bad("folds.json: already exists", "--out")
def folds_over_an_existing_file(place: Place) -> list:
    return ["make_folds", place.config(), "--out", place.file("folds.json", "{}")]


@bad("--image and --text", "--experiments")
def grid_without_towers(place: Place) -> list:
    return ["grid", place.config(), "--work-dir", place.folder / "work"]


@bad("unknown image encoder 'resnet19'. Did you mean 'resnet18'?")
def grid_with_an_unknown_tower(place: Place) -> list:
    return ["grid", place.config(), "--image", "resnet19", "resnet18", "--text", "bert", "--work-dir", place.folder / "work"]


@bad("old.json: experiment 1: unknown key 'epoch'. Did you mean 'epochs'?")
def grid_with_an_unknown_key(place: Place) -> list:
    return ["grid", place.config(), "--experiments", place.file("old.json", '[{"epoch": 3}]'), "--work-dir", place.folder / "work"]


@bad("no table 'LOSS'. Did you mean 'LOSSES'?")
def unknown_table(place: Place) -> list:
    return ["list_modules", "LOSS"]


@bad("data", "not empty")
def sample_data_over_other_files(place: Place) -> list:
    place.file("data/thesis.tex", "years of work")
    return ["make_sample_data", "digits", "--out", place.folder / "data"]


@pytest.mark.fast_cases(25)
@pytest.mark.parametrize("name", BAD)
def test_a_bad_input_is_one_clear_line(name, command, write_config, finished, snapshot, tmp_path):
    prepare, messages, lines, makes = BAD[name]
    arguments = prepare(Place(tmp_path, write_config, finished))
    before = snapshot(tmp_path, finished)
    ended = command(*arguments)
    print(f"{name}\n{ended.err}")  # pytest -s shows all messages, for reading
    assert ended.status == 2
    assert "Traceback" not in ended.err and ended.out == ""
    shown = ended.err.rstrip("\n").split("\n")
    starts = [index for index, line in enumerate(shown) if line.startswith("error: ")]
    assert len(starts) == 1, "one error"
    message = shown[starts[0] :]
    assert len(message) == lines or not lines, "it is the last thing said"
    for part in messages:
        assert part in "\n".join(message)
    after = snapshot(tmp_path, finished)
    new = [path for path in after if path not in before and Path(path).name != ".lock"]
    assert makes or not new, "a failed start makes nothing"
    # data.json says when images were last read, which is again where they were written within the last seconds.
    changed = [path for path in before if after.get(path) != before[path] and Path(path).name not in ("train.log", "data.json")]
    assert not changed, "earlier results are as they were"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"text": "\ntrian = dict()\n"}, "unknown section 'trian'", id="before torch is loaded"),
        pytest.param({"model": {"embde_dim": 3}}, "CLIP has no argument 'embde_dim'", id="after", marks=pytest.mark.slow),
    ],
)
def test_from_a_shell(write_config, repo, tmp_path, changes, message):
    """The same through the door in tools/, in a process of its own."""
    command = [sys.executable, repo / "tools" / "train.py", write_config(**changes), "--work-dir", tmp_path / "work"]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 2 and done.stdout == "" and not (tmp_path / "work").exists()
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and message in done.stderr


def test_there_are_enough_of_them():
    assert len(BAD) >= 28


@pytest.mark.parametrize("value", ["0", "-1", "x", "1.5", "", "²", "99999999999999999999", "257"])
@pytest.mark.parametrize("name", ["train", "grid", "baselines"])
def test_a_number_of_jobs_is_a_number_or_auto(command, write_config, name, value):
    ended = command(name, write_config(), f"--jobs={value}")
    assert ended.status == 2 and ended.err.startswith(f"error: --jobs: {value!r} is neither a whole number from 1 to 256 nor 'auto'")
    assert len(ended.err.splitlines()) == 1


def test_jobs_are_not_for_processes_that_train_together(command, write_config, monkeypatch):
    for options in (["--launcher", "pytorch"], ["--launcher", "slurm"], []):
        if not options:
            monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
        ended = command("train", write_config(), "--jobs", 2, *options)
        assert ended.status == 2 and ended.err.startswith("error: --jobs: trains folds side by side") and len(ended.err.splitlines()) == 1
