"""The model card of a finished run: every number is on record, nothing in it names a case, and the header is the hub's."""

import re
import shutil
from dataclasses import replace

import pytest
from huggingface_hub import ModelCard

from clipzoo.cli.train import write_model_card
from clipzoo.inference.model_card import described_model
from clipzoo.records.folds import Folds
from clipzoo.records.results import FoldResult, Summary
from clipzoo.scoring.card import model_card as module
from clipzoo.scoring.card.described import Described
from clipzoo.scoring.card.first_weights import without_paths
from clipzoo.scoring.card.model_card import CARD_FILE, Usage, model_card, usage_of, write_card
from clipzoo.text_tables import number


def card_of(described: Described, **options: str) -> str:
    return model_card(described, Usage(usage_of(described, "FOLDER")), **options)


def test_the_card_says_what_is_on_record(finished):
    described, summary = Described.read(finished), Summary.read(finished)
    text = card_of(described)
    card = ModelCard(text)
    assert (card.data.library_name, card.data.pipeline_tag, card.data.language) == ("clipzoo", "zero-shot-image-classification", "zh")
    assert card.data.license is None  # the owner decides
    assert {result.metric_type: result.metric_value for result in card.data.eval_results} == pytest.approx(summary.pooled)
    for metric, value in summary.pooled.items():
        assert f"{number(value)} | {summary.interval_text(metric)} |" in text
    for row in summary.per_class:
        assert f"| {row['class']} | {row['cases']} |" in text and f"{number(row['recall'])} [" in text
    assert text.index("## Read first") < text.index("## Model") and "Not for diagnosis" in text
    assert all(digest in text for digest in (summary.folds_digest, summary.predictions_digest))
    code = re.search(r"```python\n(.+?)```", text, re.DOTALL)[1]
    compile(code, "card", "exec")


def test_no_case_and_no_folder_is_named(finished):
    folds = Folds.read(finished / "folds.json")
    for text in (card_of(Described.read(finished)), card_of(described_model(finished / "fold_1"), lang="zh")):
        assert not any(case.id in text or re.search(rf"(?<!\w){re.escape(case.group)}(?!\w)", text) for case in folds.cases)
        assert str(finished.parent) not in text and '"root": "…"' in text


def test_notes_lose_the_names_of_cases(finished):
    described = Described.read(finished)
    case = described.folds.cases[0]
    described.summary.notes.append(f"case '{case.id}' of 12 is <b>odd</b>")
    assert "case '…' of 12 is &lt;b&gt;odd&lt;/b&gt;" in card_of(described)


def test_notes_lose_odd_and_short_names(finished):
    """Names as a terminal shows them, and numbers where they are names rather than counts; a case without a group."""
    described = Described.read(finished)
    names = [("李\u202e四", "12"), ("a\tb", "7"), ("x", None)]
    cases = [replace(case, id=id_, group=group) for case, (id_, group) in zip(described.folds.cases, names, strict=False)]
    described = replace(described, folds=replace(described.folds, cases=tuple(cases), splits=()))
    described.summary.notes.append("'李\\u202e四' and a\\tb: groups (12, 7), '7' and \"12\" of 12 in 7 folds")
    assert "'…' and …: groups (…, …), '…' and \"…\" of 12 in 7 folds" in card_of(described)


@pytest.mark.parametrize(
    "path",
    [
        *("/data/li", "~/li", "./li", "../li", "C:\\li", r"\\srv\li", "file:li", "file:///li", "sqlite:////home/li.db", "li/x.pt"),
        *("hf:/home/li", "weights:/li", "weights:li", "openclip:/home/li", "local-dir:/li", "timm:local-dir:/li", "clip:li/w.safetensors"),
    ],
)
def test_no_path_is_left(path):
    towers = {"image_encoder": {"type": "HFVision", "name": path}, "text_encoder": {"type": "CLIPText", "pretrained": path}}
    text = card_of(Described("a", {"model": {"type": "CLIP", **towers}}))
    assert not re.search(r"\bli\b", text) and text.count("started from a local file or folder") == 2
    assert "li" not in without_paths([path])[0].removeprefix("clip:").removeprefix("openclip:")


def test_path_arguments_are_known_by_their_names_and_other_names_stay():
    data = {"type": "TableDataset", "path": "li", "image_root": "li/x", "val_path": "li", "class_texts": "li", "salt": "li", "groups": "li"}
    found = without_paths({"data": {"dataset": data, "views": "group"}, "splits": {"path": "li", "seed": 3}})
    assert "'li" not in str(found) and found["splits"]["seed"] == 3 and found["data"]["views"] == "group"
    kept = {"name": "hf:openai/clip-vit-base-patch32", "pretrained": "clip:ViT-B/32", "tag": "a/b", "template": "a {class_name}."}
    assert without_paths(kept) == kept and without_paths({"name": "a/b/c"}) == {"name": "…"}


def test_the_unit_of_the_scores_is_named(finished):
    described = Described.read(finished)
    images = card_of(described)
    assert "| class | images | sensitivity" in images and "Every group counts once" not in images
    patients = replace(described, summary=replace(described.summary, unit="group", join="max"))
    assert "| class | groups | sensitivity" in card_of(patients)
    assert "Every group counts once, with the largest probability of each class over its images." in card_of(patients)
    viewed = replace(patients, config={**described.config, "data": {**described.config["data"], "views": "group"}})
    assert "36 cases in " in card_of(viewed) and "over its cases." in card_of(viewed) and "Out-of-fold predictions" in card_of(viewed)
    assert "个病例" in card_of(viewed, lang="zh") and "每组只计一次" in card_of(viewed, lang="zh")


def test_the_sentences_are_true_for_classes_findings_and_pairs(finished):
    described = Described.read(finished)
    assert "assigns one of them" in card_of(described)
    row = {"finding": "积液", "cases": 30, "auroc": 0.75, "intervals": {"auroc": [0.6, 0.9]}}
    summary = replace(described.summary, pooled={"mean_auroc": 0.75, "micro_f1": 0.5}, per_class=[], findings=[row], intervals={})
    text = card_of(replace(described, summary=summary))
    assert "assigns one of them" not in text and "probability of its own" in text
    assert "| finding | images | AUROC | average precision" in text
    assert f"| Mean AUROC | {number(0.75)} |" in text and "- Findings (3): " in text
    assert f"| 积液 | 30 | {number(0.75)} [" in text and "name: Mean AUROC" in text
    pairs = card_of(Described("a", {"model": {"type": "CLIP"}}))
    assert "assigns one of them" not in pairs and "It has no classes" in pairs


def test_the_first_of_several_repeats_says_so(finished):
    described = Described.read(finished)
    repeated = replace(described, config={**described.config, "splits": {**described.config["splits"], "num_repeats": 3}})
    assert "repeated 3 times" in card_of(repeated) and "repeated" not in card_of(described)


def test_whatever_goes_wrong_with_a_card_is_a_note(copy_of_finished, monkeypatch, capsys):
    write_model_card(copy_of_finished)
    assert (copy_of_finished / CARD_FILE).is_file() and capsys.readouterr().err == ""
    with monkeypatch.context() as patch:
        patch.setattr(module, "write_text", lambda *_: {}["group"])
        write_model_card(copy_of_finished)
    assert capsys.readouterr().err == "note: no model card: KeyError: 'group'\n"
    (copy_of_finished / "folds.json").write_text("{}")
    write_model_card(copy_of_finished)
    assert re.fullmatch(r"note: no model card: .*folds.json: .*\n", capsys.readouterr().err)


def test_a_folds_checkpoint_is_described_with_its_own_scores(finished, tmp_path):
    text, result = card_of(described_model(finished / "fold_1")), FoldResult.read(finished / "fold_1")
    assert "trained on a part of the data only (`fold_1`)" in text and result.checkpoint_digest in text
    assert f"own test part (`fold_1`): Accuracy {number(result.metrics['accuracy'])}" in text
    assert "这是一张圆的图片" in text and "32 px, " in text
    alone = shutil.copy(finished / "fold_1" / result.checkpoint, tmp_path / "a.pth")
    assert "No scores are on record beside this model" in card_of(described_model(alone))


def test_records_of_another_run_are_not_used(copy_of_finished, tmp_path):
    """The checkpoint of fold 2 in the folder of fold 1: its folds are those of the run, the result is not its own."""
    fold = copy_of_finished / "fold_1"
    result = FoldResult.read(fold)
    other = fold / "mine.pth"
    shutil.copy(copy_of_finished / "fold_2" / result.checkpoint, other)
    described = described_model(other)
    assert described.fold == "fold_2" and described.result is None and described.summary is not None
    (copy_of_finished / "cv_summary.json").unlink()
    text = card_of(described_model(fold))
    assert "cross-validation is not finished" in text and "Test part of `fold_1`: 12 images" in text and "interval |" not in text


def test_equal_runs_write_equal_cards_in_both_languages(copy_of_finished, finished, tmp_path):
    one, other = write_card(shutil.copytree(finished, tmp_path / "elsewhere")), write_card(copy_of_finished)
    assert one.name == CARD_FILE and one.read_bytes() == other.read_bytes()
    chinese = write_card(copy_of_finished, "zh").read_text(encoding="utf-8")
    assert (
        "不可用于诊断" in chinese and "准确率" in chinese and ModelCard(chinese).data.to_dict() == ModelCard(one.read_text()).data.to_dict()
    )


def test_names_of_classes_are_shown_and_not_interpreted():
    hostile = ("<script>alert(1)</script>", "a|b `c`\n# d", "\u202etxt", "=cmd()", "x" * 300)
    described = Described("n\u202e<b>", {"model": {"type": "CLIP"}}, hostile, [[name] for name in hostile])
    text = card_of(described)
    body = text.partition("\n---\n")[2]
    assert "<script>" not in body and "<b>" not in body and "\u202e" not in text and "\n# d" not in body
    assert "&lt;script&gt;" in body and "a\\|b" in body and "x" * 300 in body
    assert ModelCard(text).data.language == "en"


def test_published_weights_bring_their_licence_and_choose_none():
    towers = {"image_encoder": "openclip:ViT-B-32/laion2b_s34b_b79k", "text_encoder": "openclip:ViT-B-32/laion2b_s34b_b79k"}
    text = card_of(Described("a", {"model": {"type": "CLIP", **towers}}))
    data = ModelCard(text).data
    assert data.license is None and data.base_model == ["laion/CLIP-ViT-B-32-laion2B-s34B-b79K"]
    assert text.count("licence of these weights: MIT") == 2 and "\nlicense" not in text
    mixed = {**towers, "text_encoder": {"type": "BERT", "name": "/home/me/bert", "pretrained": True}}
    text = card_of(Described("a", {"model": {"type": "CLIP", **mixed}}))
    assert ModelCard(text).data.license is None and "/home/me" not in text and "started from a local file or folder" in text


def test_training_writes_the_card(command, write_config, tmp_path):
    ended = command("train", write_config(train={"epochs": 1}, splits={"num_folds": 2}), "--work-dir", tmp_path / "work")
    assert ended.status == 0, ended.err
    card = ModelCard((tmp_path / "work" / CARD_FILE).read_text(encoding="utf-8"))
    assert card.data.eval_results and "Out-of-fold predictions of 2 models" in card.text
