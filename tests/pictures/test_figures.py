"""What the pictures show, read from the figures, and that they are pictures at all."""

import itertools
import math

import numpy as np
import pytest

from clipzoo.metrics import Recall, per_class
from clipzoo.pictures import figures
from clipzoo.pictures.figures import Curve, Histograms, Panel, Recalls
from clipzoo.pictures.fonts import Lettering, drawing
from clipzoo.records.tables import PredictionTable, RetrievalTable

LETTERS = Lettering(("DejaVu Sans",), frozenset("髋臼"))


@pytest.fixture(autouse=True)
def style():
    with drawing([]):
        yield


def pixels(figure, tmp_path):
    from PIL import Image

    figures.save(figure, tmp_path / "figure.png")
    with Image.open(tmp_path / "figure.png") as image:
        return np.asarray(image.convert("RGB")).astype(float)


def is_blue(rgb: np.ndarray) -> np.ndarray:
    return (rgb[..., 2] > 150) & (rgb[..., 0] < 60)


def texts(axes) -> set[str]:
    return {text.get_text() for text in axes.texts}


# --- curves


def test_curves_have_their_labels_and_the_best_is_marked(tmp_path):
    nan = math.nan
    two = [Curve("a", [1, 3], [0.1, 0.5]), Curve("b", [1, 3], [0.2, 0.4])]
    panels = [
        Panel("loss", "loss", [Curve("training", [1, 2, 3], [3.0, nan, 1.0]), Curve("nothing", [], [])]),
        Panel("accuracy", "share", two, shares=True, best={"a": 0.5, "b": nan}),
        Panel("learning rate", "learning rate", [Curve("lr", [1, 2, 3], [1e-6, 5e-7, 1e-7])], from_zero=True),
    ]
    figure = figures.curves_figure("work dir / fold_1", "best so far", "epoch", panels, best_x=3)
    loss, accuracy, rate = figure.axes
    assert loss.get_title(loc="left") == "loss: training" and loss.get_xlabel() == "epoch" and loss.get_legend() is None
    assert np.isnan(loss.lines[0].get_ydata()[1]), "a gap stays one"
    assert [text.get_text() for text in accuracy.get_legend().get_texts()] == ["a", "b"]
    stars = [line for line in accuracy.lines if line.get_marker() == "*"]
    assert [(list(s.get_xdata()), list(s.get_ydata())) for s in stars] == [([3], [0.5])]
    assert rate.get_ylim()[0] == 0 and "best so far" in figure.get_suptitle()
    picture = pixels(figure, tmp_path)
    assert picture.shape[0] > 300 and picture.shape[1] > 1200 and picture.std() > 10 and is_blue(picture).sum() > 300


def test_one_epoch_is_a_point_and_nothing_is_said_to_be_nothing(tmp_path):
    panels = [Panel("loss", "loss", [Curve("training", [1], [2.0])]), Panel("accuracy", "share", [], shares=True)]
    figure = figures.curves_figure("run", "", "epoch", panels, best_x=None)
    low, high = figure.axes[0].get_xlim()
    assert low <= 0 and high >= 2 and "nothing was measured" in texts(figure.axes[1])
    assert is_blue(pixels(figure, tmp_path)).sum() > 10


def test_a_loss_that_falls_far_is_drawn_on_a_logarithmic_axis():
    falling = figures.curves_figure("run", "", "epoch", [Panel("loss", "loss", [Curve("t", [1, 2], [9.0, 0.01])])], None)
    steady = figures.curves_figure("run", "", "epoch", [Panel("loss", "loss", [Curve("t", [1, 2], [9.0, 5.0])])], None)
    assert falling.axes[0].get_yscale() == "log" and steady.axes[0].get_yscale() == "linear"


# --- classes


def test_scores_of_classes_are_those_of_the_metrics():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 60)  # no case of class 4; class 5 is never predicted
    labels[:5] = 5
    probabilities = rng.random((60, 6)).astype(np.float32)
    probabilities[:, 5] = 0
    table = PredictionTable(tuple("abcdef"), tuple(map(str, range(60))), ("",) * 60, ("f",) * 60, labels, probabilities)
    recall, precision = figures.class_scores(figures.confusion_matrix(table))
    expected = per_class(labels, probabilities, table.classes)
    np.testing.assert_allclose(recall, [row["recall"] for row in expected])
    np.testing.assert_allclose(precision, [row["precision"] for row in expected])
    assert np.isnan(recall[4]) and precision[5] == 0


def test_cases_without_a_label_are_not_counted():
    table = PredictionTable(("a", "b"), ("1", "2"), ("", ""), ("", ""), np.array([-1, 1]), np.array([[1, 0], [0, 1]], dtype=np.float32))
    assert figures.confusion_matrix(table).tolist() == [[0, 0], [0, 1]]


def test_the_matrix_shows_counts_names_and_shares_of_rows():
    figure = figures.class_figure("run", "test", np.array([[3, 1], [0, 2]]), ("cup", "stem"), LETTERS)
    bars, matrix = figure.axes[:2]
    assert texts(matrix) == {"3", "1", "2"}, "zeros would only be noise"
    np.testing.assert_allclose(matrix.images[0].get_array(), [[0.75, 0.25], [0, 1]])
    assert [t.get_text() for t in matrix.get_yticklabels()] == ["cup", "stem"] and matrix.get_ylabel() == "true"
    assert [t.get_text() for t in bars.get_yticklabels()] == ["cup (n=4)", "stem (n=2)"]
    assert [round(bar.get_width(), 3) for bar in bars.patches] == [0.75, 1, 1, 0.667]


def test_names_without_a_font_are_numbered():
    figure = figures.confusion_figure(np.eye(2, dtype=int), ("髋臼", "stem"), LETTERS)
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["class 1", "stem"]
    assert "Noto Sans CJK" in figure._supxlabel.get_text()
    assert figures.confusion_figure(np.eye(2, dtype=int), ("cup", "stem"), LETTERS)._supxlabel is None


@pytest.mark.parametrize("count", [1, 25, pytest.param(200, marks=pytest.mark.slow)])
def test_any_number_of_classes_fits_a_picture(tmp_path, count):
    matrix = np.eye(count, dtype=int) * 3
    names = [f"class of a kind whose name is long, {i}" for i in range(count)]
    figure = figures.class_figure("run", "test", matrix, names, LETTERS)
    height, width, _ = pixels(figure, tmp_path).shape
    assert 300 < height < 2000 and 600 < width < 2500
    assert len(figure.axes[0].get_yticks()) == min(count, 40 if count <= 40 else 20)
    assert len(figure.axes[1].get_yticks()) <= 40 and not (count > 20 and figure.axes[1].texts)


def test_long_names_keep_head_and_tail():
    assert figures.shortened_name("cup") == "cup"
    short = figures.shortened_name("femoral stem, cemented, version 12")
    assert short.startswith("femoral stem") and short.endswith("12") and len(short) <= 24


# --- retrieval


@pytest.mark.parametrize(("own", "gallery", "depth"), [(1, 6, 1), (2, 6, 3), (3, 5, 2), (4, 5, 3), (5, 5, 1), (1, 4, 10)])
def test_chance_is_the_share_of_all_orders_with_a_hit(own, gallery, depth):
    orders = list(itertools.permutations(range(gallery)))
    hits = sum(min(order[i] for i in range(min(depth, gallery))) < own for order in orders)
    assert figures.chance([own], gallery, depth) == pytest.approx(hits / len(orders))


def test_chance_is_what_a_collapsed_model_scores():
    """All similarities equal: by the metrics' own rule for ties."""
    positives, gallery = [1, 1, 3, 2], 9
    columns = dict(direction=["image_to_text"] * 4, query=list("abcd"), group=[""] * 4, fold=["f"] * 4, gallery=[gallery] * 4)
    counts = dict(ahead=[0] * 4, tied=[gallery - p for p in positives], positives=positives)
    rest = dict(positive_similarity=[0.5] * 4, negative_similarity=[0.5] * 4, best_match=[""] * 4)
    table = RetrievalTable.from_columns(**columns, **counts, **rest)
    for depth in (1, 5, 10):
        assert figures.chance(positives, gallery, depth) == pytest.approx(Recall("image_to_text", depth).compute(table))
    assert math.isnan(figures.chance([], 3, 1))


def test_bars_stand_beside_chance(tmp_path):
    recalls = [Recalls("image to text", [1, 5], [0.4, 0.9], [0.1, 0.5]), Recalls("text to image", [1, 5], [0.3, math.nan], [0.1, 0.5])]
    histograms = Histograms(np.r_[[0] * 150, 5, [0] * 49], np.r_[[0] * 90, [3] * 20, [0] * 90], np.linspace(-1, 1, 201), (0.5, math.nan))
    figure = figures.retrieval_figure("run", "test", recalls, histograms)
    bars, densities = figure.axes
    assert [round(bar.get_height(), 3) for bar in bars.patches] == [0.4, 0.9, 0.3, 0] and {"0.400", "undefined"} <= texts(bars)
    assert [line.get_ydata()[0] for line in bars.lines] == [0.1, 0.5, 0.1, 0.5]
    labels = {text.get_text() for text in densities.get_legend().get_texts()}
    assert labels == {"other pairs (n=60)", "pairs that belong together (n=5), mean 0.500"}
    assert "apart" not in densities.get_title(loc="left"), "no gap without both means"
    assert pixels(figure, tmp_path).std() > 10


def test_histograms_have_area_1_and_the_gap_is_said():
    rng = np.random.default_rng(0)
    edges = np.linspace(-1, 1, 201)
    positive, negative = (np.histogram(rng.normal(mean, 0.1, n), edges)[0] for mean, n in ((0.5, 400), (0.0, 9000)))
    figure = figures.retrieval_figure("run", "test", [], Histograms(positive, negative, edges, (0.5, 0.02)))
    axes = figure.axes[1]
    for patch in axes.patches:
        values, at = patch.get_data().values, patch.get_data().edges
        assert (values * np.diff(at)).sum() == pytest.approx(1)
    assert "0.480 apart" in axes.get_title(loc="left")


def test_few_pairs_get_wide_bins_and_many_narrow_ones():
    spread = np.r_[[0] * 100, [1] * 20, [0] * 80]
    assert figures.bins_to_join(spread) > 1 and figures.bins_to_join(spread * 10_000) == 1
    assert figures.bins_to_join(np.r_[[0] * 199, 1]) == 1


@pytest.mark.slow
def test_without_similarities_the_rest_is_drawn(tmp_path):
    empty = Histograms(np.zeros(200, dtype=int), np.zeros(200, dtype=int), np.linspace(-1, 1, 201), (math.nan, math.nan))
    for histograms in (None, empty):
        figure = figures.retrieval_figure("run", "", [Recalls("a", [1], [0.5], [0.1])], histograms)
        assert "no similarities" in texts(figure.axes[1]) and pixels(figure, tmp_path).std() > 5


def test_equal_figures_make_equal_files(tmp_path):
    for name in ("a.png", "b.png"):
        figures.save(figures.confusion_figure(np.eye(3, dtype=int), ("a", "b", "c"), LETTERS), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
