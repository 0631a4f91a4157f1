"""Episodes: what is drawn, what is counted, and what the interval covers."""

import csv
import io

import numpy as np
import pytest
from probe_examples import draw

from clipzoo.errors import ConfigError, DataError
from clipzoo.fewshot import episodes, shot_curve
from clipzoo.fewshot.episodes import EpisodePool, Plan, Point, interval
from clipzoo.probes import KNearest, LinearProbe, Prototype, TipAdapter, ZeroShot

NAMES = ["猫", "狗", "鸟", "鱼", "马", "牛"]
PLAN = Plan(way=3, shots=(1, 2), query=4, episodes=20, seed=5)


def pool_of(plan: Plan = PLAN, per_class: int = 10, groups=None) -> EpisodePool:
    labels = np.repeat(np.arange(6), per_class)
    return EpisodePool(labels, np.arange(len(labels)) if groups is None else groups, NAMES, plan)


def same(a, b) -> bool:
    return all(np.array_equal(getattr(a, part), getattr(b, part)) for part in ("classes", "support", "query"))


def test_an_episode_is_what_was_asked_for():
    pool = pool_of()
    seen = set()
    for number in range(20):
        episode = pool.draw(number)
        assert episode.support.shape == (3, 2) and episode.query.shape == (3, 4) and len(set(episode.classes)) == 3
        for part in (episode.support, episode.query):
            assert (pool.labels[part] == episode.classes[:, None]).all()
        rows = np.concatenate([episode.support.ravel(), episode.query.ravel()])
        assert len(set(rows)) == 18
        seen |= set(rows)
    assert len(seen) > 50, "all images are drawn from"


def test_the_same_seed_draws_the_same_episodes_and_another_one_others():
    assert all(same(pool_of().draw(n), pool_of().draw(n)) for n in range(5))
    assert not same(pool_of().draw(0), pool_of().draw(1))
    assert not same(pool_of().draw(0), pool_of(Plan(way=3, shots=(1, 2), query=4, seed=6)).draw(0))


def test_a_smaller_shot_has_the_same_queries_and_the_first_of_the_support():
    alone = pool_of(Plan(way=3, shots=(1,), query=4, seed=5)).draw(3)
    both = pool_of().draw(3)
    assert np.array_equal(alone.query, both.query) and np.array_equal(alone.classes, both.classes)
    assert alone.support.shape == (3, 1) and np.array_equal(alone.support[:, 0] // 10, both.support[:, 0] // 10)


@pytest.mark.parametrize("across", [False, True])
def test_support_and_query_never_share_a_group(across):
    """Also where a patient has images in several classes."""
    numbers = np.arange(120)
    groups = numbers % 17 if across else numbers // 2
    plan = Plan(way=3, shots=(1, 3), query=2, episodes=30)
    pool = pool_of(plan, 20, groups)
    for number in range(30):
        episode = pool.draw(number)
        support, query = groups[episode.support], groups[episode.query]
        assert not set(support.ravel()) & set(query.ravel())
        assert all(len(set(row)) == len(row) for row in [*support, *query]), "a group stands in a class once"


def test_classes_with_too_few_groups_are_left_out_or_refused():
    labels = np.repeat(np.arange(6), [10, 10, 5, 10, 2, 10])
    pool = EpisodePool(labels, np.arange(len(labels)), NAMES, PLAN)
    assert pool.usable.tolist() == [0, 1, 3, 5]
    assert pool.notes == ("2 classes left out, which have no 2 support and 4 query images from 6 different groups: 鸟 (5), 马 (2)",)
    assert all(set(pool.draw(n).classes) <= {0, 1, 3, 5} for n in range(20))
    groups = np.arange(len(labels)) // 2  # of 10 images 5 groups are left
    with pytest.raises(
        DataError, match="3-way episodes need 3 classes with 2 support .* 6 different groups, but there are 2. Too few groups: 猫"
    ):
        EpisodePool(labels, groups, NAMES, PLAN)


def test_groups_that_cannot_be_kept_apart_are_refused():
    groups = np.tile(np.arange(10), 6)  # every patient is in every class
    pool = pool_of(Plan(way=3, shots=(5,), query=5), groups=groups)
    with pytest.raises(DataError, match="support and query cannot be kept apart"):
        pool.draw(0)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"way": 1}, "--way: 1 must be 2 or more"),
        ({"query": 0}, "--query: 0 must be 1 or more"),
        ({"episodes": 1}, "--episodes: 1 must be 2 or more"),
        ({"seed": -1}, "--seed: -1 must be 0 or more"),
        ({"shots": (0, 1)}, "--shot: 0 1 must be different numbers of 1 or more"),
        ({"shots": (5, 5)}, "--shot: 5 5 must be different"),
    ],
)
def test_impossible_plans_are_refused(changes, says):
    with pytest.raises(ConfigError, match=says):
        Plan(**changes)


@pytest.fixture(scope="module")
def features():
    """60 images in 6 classes that lie near each other, with texts."""
    examples = draw(6, 10, 16, noise=1.5, seed=3)
    order = np.argsort(examples.labels, kind="stable")
    return examples.features[order], examples.text


def test_accuracies_equal_a_naive_loop(features):
    rows, _ = features
    pool = pool_of()
    points = episodes.evaluate(rows, pool, [Prototype()])
    assert [(p.method, p.shot) for p in points] == [("prototype", 1), ("prototype", 2)]
    for point in points:
        naive = []
        for number in range(20):
            episode = pool.draw(number)
            means = [rows[own[: point.shot]].mean(axis=0) for own in episode.support]
            means = [mean / np.linalg.norm(mean) for mean in means]
            right = [int(np.argmax([rows[q] @ m for m in means])) == i for i, own in enumerate(episode.query) for q in own]
            naive.append(sum(right) / 12)
        assert np.allclose(point.accuracies, naive, atol=1e-12) and 0.34 < point.mean < 1


@pytest.mark.slow
def test_methods_neither_change_the_episodes_nor_each_other(features):
    rows, text = features
    plan = Plan(way=3, shots=(3, 1), query=4, episodes=4)
    probes = [Prototype(), LinearProbe(), TipAdapter(), KNearest()]
    together = episodes.evaluate(rows, pool_of(plan), probes, text=text, logit_scale=20.0)
    alone = [point for probe in probes[::-1] for point in episodes.evaluate(rows, pool_of(plan), [probe], text=text, logit_scale=20.0)]
    of = {(point.method, point.shot): point.accuracies for point in alone}
    assert len(together) == 8 == len(of) and all(np.array_equal(p.accuracies, of[p.method, p.shot]) for p in together)
    assert [p.shot for p in together[:2]] == [3, 1]


def test_every_episode_has_the_texts_of_its_classes(features):
    rows, text = features
    pool = pool_of()
    (point, _) = episodes.evaluate(rows, pool, [ZeroShot()], text=text)
    drawn = [pool.draw(number) for number in range(20)]
    naive = [(rows[e.query] @ text[e.classes].T).argmax(axis=2) == np.arange(3)[:, None] for e in drawn]
    assert np.allclose(point.accuracies, np.mean(naive, axis=(1, 2))) and point.mean > 0.5


def test_labels_of_queries_have_no_say(features):
    """Wrong labels of what is not in an episode's support change neither support nor classifier."""
    rows, _ = features
    seen = []

    class Spy(Prototype):
        def fit(self, examples):
            seen.append((examples.features.tobytes(), examples.groups.tolist(), examples.num_classes))
            return super().fit(examples)

    pool = pool_of()
    episodes.evaluate(rows, pool, [Spy()])
    first = pool.draw(0)
    assert seen[0] == (rows[first.support[:, :1].ravel()].tobytes(), first.support[:, 0].tolist(), 3)
    assert len(seen) == 40


def test_the_interval_equals_a_textbook_one_and_covers_what_it_says():
    from scipy import stats

    values = np.array([0.2, 0.5, 0.4, 0.9])
    expected = stats.t.interval(0.95, 3, loc=values.mean(), scale=stats.sem(values))
    assert np.allclose(interval(values), expected)
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(4000):  # accuracies of 25 episodes with 40 queries each, whose difficulty differs
        accuracies = rng.binomial(40, rng.beta(6, 4, size=25)) / 40
        low, high = interval(accuracies)
        covered += low <= 0.6 <= high
    assert 0.93 <= covered / 4000 <= 0.97


@pytest.mark.slow
def test_the_interval_of_an_evaluation_covers_the_mean_over_very_many_episodes(features):
    rows, _ = features
    truth = episodes.evaluate(rows, pool_of(Plan(way=3, shots=(1,), query=2, episodes=3000, seed=99)), [Prototype(0.1)])[0].mean
    point = episodes.evaluate(rows, pool_of(Plan(way=3, shots=(1,), query=2, episodes=3000, seed=1)), [Prototype(0.1)])[0]
    covered = [low <= truth <= high for low, high in map(interval, point.accuracies.reshape(150, 20))]
    assert 0.88 <= np.mean(covered) <= 0.99


def test_tables_hold_every_number(features):
    pool = pool_of()
    points = episodes.evaluate(features[0], pool, [Prototype(), KNearest(1)])
    curve = list(csv.DictReader(io.StringIO(episodes.curve_csv(points, PLAN).decode())))
    assert list(curve[0]) == ["method", "shot", "way", "episodes", "mean", "ci95_low", "ci95_high", "sd"] and len(curve) == 4
    rows = list(csv.DictReader(io.StringIO(episodes.episodes_csv(points, pool, NAMES).decode())))
    assert len(rows) == 80 and rows[0]["classes"] == "|".join(NAMES[label] for label in pool.draw(0).classes)
    for line in curve:
        own = np.array([float(r["accuracy"]) for r in rows if (r["method"], r["shot"]) == (line["method"], line["shot"])])
        assert float(line["mean"]) == pytest.approx(own.mean(), abs=2e-6) and float(line["sd"]) == pytest.approx(own.std(ddof=1), abs=2e-6)
        assert np.allclose([float(line["ci95_low"]), float(line["ci95_high"])], interval(own), atol=2e-6)
        assert line["way"] == "3" and line["episodes"] == "20"


def test_the_curve_is_drawn_without_a_warning(monkeypatch, recwarn):
    from PIL import Image

    rng = np.random.default_rng(0)
    points = [Point(method, shot, rng.uniform(0.3, 0.9, 20)) for method in ("prototype", "linear", "tip") for shot in (5, 1)]
    plan = Plan(way=5, shots=(5, 1), episodes=20)
    made = shot_curve.shot_curve(points, plan, "髋关节 $5")
    assert made == shot_curve.shot_curve(points, plan, "髋关节 $5") and made != shot_curve.shot_curve(points[:4], plan, "髋关节 $5")
    image = Image.open(io.BytesIO(made))
    assert image.format == "PNG" and min(image.size) > 400 and len(image.convert("RGB").getcolors(1 << 20)) > 20
    assert not [warning for warning in recwarn if "lyph" in str(warning.message)]
