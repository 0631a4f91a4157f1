"""Few-shot tasks are found, read and checked as a whole."""

import shutil
import unicodedata

import pytest
from few_shot_files import write_tasks
from PIL import Image

from clipzoo.errors import DataError, LeakError
from clipzoo.fewshot.tasks import read_tasks
from clipzoo.files import natural

CLASSES = ("圆", "方块", "条纹")


@pytest.fixture
def folder(tmp_path, class_folders):
    """Two tasks below TEST/testB."""
    write_tasks(tmp_path / "TEST" / "testB", class_folders)
    return tmp_path / "TEST"


def test_tasks_are_read_in_natural_order(tmp_path, class_folders):
    root = write_tasks(tmp_path / "TEST" / "testB", class_folders, tasks=11)
    found = read_tasks(tmp_path / "TEST")
    assert [task.name for task in found] == [f"task{number}" for number in range(1, 12)]
    task = found[1]
    assert task.classes == CLASSES and [image.label for image in task.support] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert [query.name for query in task.query] == sorted(f"{name}_{number:03d}.png" for name in CLASSES for number in (4, 5))
    assert all(query.path == str(root / "task2" / "query" / query.name) for query in task.query) and not task.notes


def test_natural_order():
    assert sorted(["b", "10", "9a", "9", "a2", "a10", "a1b"], key=natural) == ["9", "9a", "10", "a1b", "a2", "a10", "b"]


def test_the_folder_between_may_have_any_name_or_none(folder, tmp_path):
    names = [task.name for task in read_tasks(folder)]
    assert [task.name for task in read_tasks(folder / "testB")] == names == ["task1", "task2"]
    (folder / "testB").rename(folder / "别的")
    (folder / "别的" / "task1").rename(folder / "别的" / "第1题")
    assert [task.name for task in read_tasks(folder)] == ["task2", "第1题"]
    (folder / "__MACOSX" / "task9").mkdir(parents=True)
    (folder / ".hidden" / "task9").mkdir(parents=True)
    (folder / "notes").mkdir()
    assert len(read_tasks(folder)) == 2
    for name in ("tasks", "Task B"):
        (folder / "别的").rename(folder / name)
        assert len(read_tasks(folder)) == 2
        (folder / name).rename(folder / "别的")


def test_names_are_in_one_unicode_spelling(folder):
    task = folder / "testB" / "task1"
    apart = unicodedata.normalize("NFD", "é")
    (task / "support" / "圆").rename(task / "support" / apart)
    next((task / "query").iterdir()).rename(task / "query" / f"{apart}.png")
    found = read_tasks(folder)[0]
    assert found.classes == ("é", "方块", "条纹") and "é.png" in [query.name for query in found.query]
    shutil.copytree(task / "support" / apart, task / "support" / "é")
    with pytest.raises(DataError, match="two folders are named 'é' up to blanks or Unicode normalisation"):
        read_tasks(folder)


def test_class_folders_with_blanks_meet_their_names_and_are_in_natural_order(folder):
    support = folder / "testB" / "task1" / "support"
    for name, other in zip(CLASSES, ("10 ", "2", " 1"), strict=True):
        (support / name).rename(support / other)
    found = read_tasks(folder)[0]
    assert found.classes == ("1", "2", "10") and [image.path.split("/")[-2] for image in found.support][::3] == [" 1", "2", "10 "]
    (support / "10").symlink_to("nowhere")
    with pytest.raises(DataError, match="support/10: broken link to nowhere"):
        read_tasks(folder)


def test_names_that_differ_in_their_spelling_alone_are_refused(folder):
    """Nobody could tell their rows in the result apart."""
    query, apart = folder / "testB" / "task1" / "query", unicodedata.normalize("NFD", "é")
    for name in ("é", apart):
        shutil.copy(next(query.glob("圆*")), query / f"{name}.png")
    shutil.copytree(folder / "testB" / "task2", folder / "testB" / f"task{apart}")
    shutil.copytree(folder / "testB" / "task2", folder / "testB" / "taské")
    with pytest.raises(DataError) as caught:
        read_tasks(folder)
    assert str(caught.value).splitlines()[1:] == [
        f"{query}: two images are named 'é.png' up to blanks or Unicode normalisation. Rename one",
        f"{folder}/testB: two tasks are named 'taské' up to blanks or Unicode normalisation. Rename one",
    ]


def test_images_may_lie_deeper_and_other_files_are_noted(folder):
    task = folder / "testB" / "task1"
    (task / "query" / "sub").mkdir()
    images = sorted((task / "query").glob("*.png"))
    images[0].rename(task / "query" / "sub" / "10.png")
    images[1].rename(task / "query" / "sub" / "9.png")
    (task / "query" / "readme.txt").write_text("x")
    (task / "query" / ".DS_Store").write_text("x")
    found = read_tasks(folder)[0]
    assert [query.name for query in found.query][:2] == ["sub/9.png", "sub/10.png"]
    assert found.notes == ("files that are no images were ignored: 1 .txt",)


def test_every_problem_of_every_task_is_named_at_once(folder):
    first, second = folder / "testB" / "task1", folder / "testB" / "task2"
    shutil.copy(first / "support" / "圆" / "001.png", first / "query" / "copy.png")
    for image in (first / "support" / "方块").iterdir():
        image.unlink()
    shutil.rmtree(second / "support")
    for image in (second / "query").iterdir():
        image.unlink()
    (folder / "testB" / "task3").mkdir()
    with pytest.raises(LeakError) as caught:
        read_tasks(folder)
    lines = str(caught.value).splitlines()
    assert lines == [
        "6 problems, nothing was computed",
        f"{first}/support/方块: no images in the class folder. Add one, or remove the folder",
        f"{first}/query/copy.png: the same image as {first}/support/圆/001.png, byte for byte. "
        "A query must not contain a support image: remove one",
        f"{second}/support: no such folder. A task must contain support/ with one folder of images per class",
        f"{second}/query: no images to predict. Supported: png jpg jpeg bmp tif tiff webp pgm dcm",
        f"{folder}/testB/task3/support: no such folder. A task must contain support/ with one folder of images per class",
        f"{folder}/testB/task3/query: no such folder. A task must contain query/ with the images to predict",
    ]


def test_a_support_image_that_cannot_be_read_is_refused_and_a_query_image_is_not(folder):
    task = folder / "testB" / "task1"
    for part in (task / "support" / "圆" / "000.png", task / "query" / "圆_003.png"):
        part.write_bytes(part.read_bytes()[:60])
    watched = []

    class Through:
        def __init__(self, total):
            watched.append(total)

        def __enter__(self):
            return watched.append

        def __exit__(self, *_):
            watched.append("closed")

    with pytest.raises(DataError) as caught:
        read_tasks(folder, Through)
    assert not isinstance(caught.value, LeakError)
    assert str(caught.value).startswith(f"{task}/support/圆/000.png: ") and "\n" not in str(caught.value)
    assert watched == [18, *range(1, 19), "closed"]
    Image.new("RGB", (9, 9)).save(task / "support" / "圆" / "000.png")
    assert len(read_tasks(folder)[0].query) == 6


def test_an_image_in_two_classes_and_images_beside_the_classes_are_refused(folder):
    support = folder / "testB" / "task2" / "support"
    shutil.copy(support / "圆" / "001.png", support / "条纹" / "x.png")
    shutil.copy(support / "圆" / "002.png", support / "002.png")
    with pytest.raises(DataError) as caught:
        read_tasks(folder)
    assert f"{support}/条纹/x.png: the same image is also in class '圆', as {support}/圆/001.png. Remove the wrong one" in str(caught.value)
    assert f"{support}: images lie next to the class folders (002.png). Move them into a class folder" in str(caught.value)


def test_a_query_may_hold_what_another_task_learns_from(folder):
    shutil.copy(folder / "testB" / "task1" / "support" / "圆" / "000.png", folder / "testB" / "task2" / "query" / "x.png")
    assert len(read_tasks(folder)[1].query) == 7


def test_a_folder_without_tasks_says_what_is_expected(tmp_path, folder, class_folders):
    with pytest.raises(DataError, match="no such folder. Expected:\n.*testB/\n.*task1/"):
        read_tasks(tmp_path / "none")
    with pytest.raises(DataError, match="contains no tasks. Expected:"):
        read_tasks(class_folders)
    with pytest.raises(DataError, match="is a file, not a folder"):
        read_tasks(next((class_folders / "圆").iterdir()))
    with pytest.raises(DataError, match="task1: is itself a task. Pass its parent folder, .*testB"):
        read_tasks(folder / "testB" / "task1")
    shutil.copytree(folder / "testB", folder / "testA")
    with pytest.raises(DataError, match="tasks are in several folders: testA, testB. Pass one of them, such as .*testA"):
        read_tasks(folder)
