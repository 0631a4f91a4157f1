"""Explanations of loaded models: what is explained, of which model, and that nothing is changed."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from clipzoo.errors import BuildError, DataError
from clipzoo.explain import explain, explain_classes
from clipzoo.inference.ensemble import FoldEnsemble


@pytest.fixture(params=["conv_clip", "vit_clip"])
def clip(request):
    return request.getfixturevalue(request.param)


def test_the_score_is_the_similarity_and_maps_are_on_the_square_of_the_tower(clip, files):
    found = explain(clip, files, "一个圆", batch_size=4)
    assert found.maps.shape == (9, 32, 32) and found.maps.dtype == np.float32 and found.maps.min() >= 0 and found.maps.max() > 0
    assert found.targets == ("一个圆",) * 9 and found.against == () and len(found) == 9
    assert found.method == ("grad_cam" if clip.model.image_encoder.name == "test_resnet" else "relevance")
    np.testing.assert_allclose(found.scores, clip.similarity(files, "一个圆")[:, 0], atol=1e-5)
    again = explain(clip, files, "一个圆", batch_size=9)
    np.testing.assert_allclose(found.maps, again.maps, atol=1e-6)


def test_the_map_depends_on_the_text(clip, files):
    one, other = (explain(clip, files, text).maps for text in ("一个圆", "方块和条纹"))
    assert np.abs(one - other).max() > 0.05 * one.max()


def test_a_difference_is_between_two_sentences_and_each_image_may_have_its_own(clip, files):
    texts, others = ["一个圆", "方块", "条纹"] * 3, ["方块", "条纹", "一个圆"] * 3
    found = explain(clip, files, texts, others, batch_size=4)
    similarity = clip.similarity(files, texts + others).numpy()
    np.testing.assert_allclose(found.scores, np.diag(similarity[:, :9] - similarity[:, 9:]), atol=1e-5)
    alone = explain(clip, files[4], "方块", "条纹")
    np.testing.assert_allclose(found.maps[4], alone.maps[0], atol=1e-6)
    assert found.targets == tuple(texts) and found.against == tuple(others)


def test_gradcam_for_a_against_b_is_what_b_against_a_cut_off(conv_clip, files):
    forth, back = explain(conv_clip, files, "一个圆", "方块"), explain(conv_clip, files, "方块", "一个圆")
    np.testing.assert_allclose(forth.scores, -back.scores, atol=1e-6)
    assert forth.maps.any() and back.maps.any()
    assert not (explain(conv_clip, files, "一个圆", "一个圆").maps > 1e-7).any()


def test_classes_are_explained_by_their_logit(clip, files):
    found = explain_classes(clip, files)
    result = clip.classify(files)
    assert found.targets == tuple(result.predictions)
    log_probability = result.probabilities.log()
    ids = torch.tensor([result.classes.index(name) for name in found.targets])
    against = explain_classes(clip, files, list(found.targets), "圆", batch_size=2)
    expected = log_probability.gather(1, ids[:, None])[:, 0] - log_probability[:, result.classes.index("圆")]
    np.testing.assert_allclose(against.scores, expected, atol=1e-3)  # differences of logits are differences of log probabilities
    np.testing.assert_allclose(explain_classes(clip, files, "圆").scores - explain_classes(clip, files, "方块").scores,
                               explain_classes(clip, files, "圆", "方块").scores, atol=1e-4)  # fmt: skip


def test_a_classifier_explains_its_classes_only(classifier, files):
    found = explain_classes(classifier, files)
    images = torch.stack([classifier.preprocess(_open(path)) for path in files])
    with torch.no_grad():
        logits = classifier.model.logits(classifier.model.image_encoder(images))
    np.testing.assert_allclose(found.scores, logits.max(dim=1).values, rtol=1e-4, atol=1e-5)
    assert found.maps.shape == (9, 32, 32)
    with pytest.raises(BuildError, match="has no text side. Explain one of its 3 classes: 圆, 方块, 条纹"):
        explain(classifier, files, "一个圆")


def _open(path):
    from PIL import Image

    return Image.open(path)


def test_the_map_is_the_relu_of_gradcam_enlarged(classifier, files):
    """By hand, from a hook on the network."""
    found = explain_classes(classifier, files[:1], "圆")
    tower, kept = classifier.model.image_encoder, []
    hook = tower.net.layer2.register_forward_hook(lambda module, inputs, output: kept.append(output))  # 4 x 4 at 32 px
    image = classifier.preprocess(_open(files[0]))[None]
    logit = classifier.model.logits(tower(image))[0, classifier.classes.index("圆")]
    hook.remove()
    (gradient,) = torch.autograd.grad(logit, kept)
    cam = (gradient.mean(dim=(2, 3), keepdim=True) * kept[0]).sum(dim=1, keepdim=True).relu()
    expected = F.interpolate(cam, size=(32, 32), mode="bilinear", align_corners=False)[0, 0].detach()
    np.testing.assert_allclose(found.maps[0], expected, rtol=1e-4, atol=1e-6)


def test_an_ensemble_is_the_mean_of_the_maps_of_its_folds(make_loaded, files):
    members = {f"fold_{seed}": make_loaded(runtime={"seed": seed}) for seed in (1, 2)}
    torch.manual_seed(0)
    for parameter in members["fold_2"].model.parameters():  # folds have different weights
        parameter.data += 0.05 * torch.randn(parameter.shape)
    ensemble = FoldEnsemble(members, "run")
    seen = []
    found = explain(ensemble, files, "一个圆", progress=seen.append, batch_size=5)
    single = [explain(member, files, "一个圆") for member in members.values()]
    np.testing.assert_allclose(found.maps, np.mean([one.maps for one in single], axis=0), atol=1e-6)
    np.testing.assert_allclose(found.scores, np.mean([one.scores for one in single], axis=0), atol=1e-6)
    assert seen == [5, 9, 14, 18] and np.abs(single[0].maps - single[1].maps).max() > 0
    assert explain_classes(ensemble, files).targets == tuple(ensemble.classify(files).predictions)


def test_test_views_and_precision_do_not_enter(vit_clip, files):
    plain = explain(vit_clip, files[:2], "一个圆")
    tower = vit_clip.model.image_encoder
    try:
        tower.average_over(["flip", "shifts"])
        np.testing.assert_array_equal(explain(vit_clip, files[:2], "一个圆").maps, plain.maps)
        vit_clip.precision = "bf16"  # only the sentences are then encoded in bf16
        np.testing.assert_allclose(explain(vit_clip, files[:2], "一个圆").maps, plain.maps, rtol=0.02)
    finally:
        tower.test_views, vit_clip.precision = (), "fp32"


def test_the_model_is_left_as_it_was_also_in_training_mode(clip, files):
    model = clip.model
    model.train()
    model.image_encoder.requires_grad_(False)
    try:
        modes = {name: module.training for name, module in model.named_modules()}
        grads = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
        state = {name: value.clone() for name, value in model.state_dict().items()}
        assert explain(clip, files[:2], "一个圆").maps.any()  # frozen towers too
        assert {name: module.training for name, module in model.named_modules()} == modes and True in modes.values()
        assert {name: parameter.requires_grad for name, parameter in model.named_parameters()} == grads
        assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
        assert all(parameter.grad is None for parameter in model.parameters())
    finally:
        model.requires_grad_(True)
        model.eval()


def test_bad_input_is_refused_in_a_line(conv_clip, files):
    for call, message in [
        (lambda: explain(conv_clip, files, ["a", "b"]), "text: 2 for 9 images. Pass one for all, or one for each"),
        (lambda: explain(conv_clip, files, "a", ["b"]), "against: 1 for 9 images"),
        (lambda: explain(conv_clip, files, " "), "is empty"),
        (lambda: explain(conv_clip, "nowhere.png", "a"), "nowhere.png: no such file"),
        (lambda: explain_classes(conv_clip, files, "园"), "has no class '园'"),
        (lambda: explain_classes(conv_clip, files, "圆", "方"), "has no class '方'. Did you mean '方块'?"),
    ]:
        with pytest.raises(DataError) as caught:
            call()
        assert message in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(BuildError, match="method 'relevance' does not fit"):
        explain(conv_clip, files, "a", method="relevance")


def test_a_model_without_an_image_tower_is_refused(conv_clip, files, monkeypatch):
    monkeypatch.setattr(type(conv_clip.model), "takes_features", False)
    with pytest.raises(BuildError, match=r"CLIP cannot be explained: it computes nothing from the features of an image_encoder"):
        explain(conv_clip, files, "a")
