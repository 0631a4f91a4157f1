"""The served page and its JSON: answers equal to those of the loaded model, limits, and what a hostile request gets."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image
from tiny import tiny_config, write_class_folders

import clipzoo
from clipzoo.config import Config
from clipzoo.serving.neighbours import Neighbours
from clipzoo.serving.service import Limits, Question, Service

TestClient = pytest.importorskip("starlette.testclient").TestClient
HOSTS = ["testserver", "localhost"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The fold of a tiny run, its model, and its dataset."""
    from rich.console import Console

    from clipzoo.engine.cross_validation import CrossValidation

    root = tmp_path_factory.mktemp("served")
    names = ("方块", "<script>alert(1)</script>")
    config = tiny_config(write_class_folders(root / "data", ("方块", "圆"), per_class=8), train={"epochs": 1})
    config["splits"] = {"type": "Holdout", "test_fraction": 0.3, "seed": 0, "val_fraction": 0.2}
    CrossValidation(Config.from_dict(config, "tiny"), root / "w", console=Console(quiet=True)).train()
    return root / "w" / "fold_1", clipzoo.load(root / "w" / "fold_1"), names


@pytest.fixture(scope="module")
def client(trained):
    from clipzoo.serving.app import make_app
    from clipzoo.serving.neighbours import training_cases

    folder, model, _ = trained
    data, case_ids = training_cases(folder)
    service = Service(
        model, Neighbours(model, data, case_ids), Limits(body_bytes=600_000, images=3, pixels=100_000, texts=4, characters=100)
    )
    with TestClient(make_app(service, hosts=HOSTS), raise_server_exceptions=True) as found:
        yield found


def png(seed: int = 0, size: int = 24) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (size, size, 3), dtype=np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def upload(*contents: bytes, name: str = "图 1.png") -> list:
    return [("images", (name, content, "image/png")) for content in contents]


def test_answers_are_those_of_the_model(client, trained):
    _, model, _ = trained
    contents = [png(1), png(2)]
    texts = ["一个方块", "a disc", "圆形"]
    answer = client.post("/api/predict", files=upload(*contents), data={"texts": texts}).json()
    images = [Image.open(io.BytesIO(content)) for content in contents]
    wanted = model.classify(images, texts)
    assert answer["classes"] == texts and [one["name"] for one in answer["results"]] == ["图 1.png"] * 2
    for one, row in zip(answer["results"], wanted.top(3), strict=True):
        assert [(p["class"], p["p"]) for p in one["predictions"]] == [(label, pytest.approx(p, abs=1e-6)) for label, p in row]
    own = client.post("/api/predict", files=upload(contents[0]), data={"explain": "0"}).json()
    assert set(own["classes"]) == set(model.classes) and own["results"][0]["explanation"] is None
    content = answer["results"][0]["explanation"].removeprefix("data:image/jpeg;base64,")
    assert Image.open(io.BytesIO(base64.b64decode(content))).size == (24, 24)


def test_neighbours_are_the_nearest_training_cases(client, trained):
    folder, model, _ = trained
    from clipzoo.serving.neighbours import training_cases

    data, case_ids = training_cases(folder)
    case_id = case_ids[3]
    path = data.source_of(data.rows[case_id])
    with open(path, "rb") as file:
        near = client.post("/api/predict", files=upload(file.read())).json()["results"][0]["neighbours"]
    assert near[0]["case_id"] == case_id and near[0]["similarity"] == pytest.approx(1, abs=1e-5)
    features = model.encode_image([data.source_of(data.rows[i]) for i in case_ids]).numpy()
    order = np.argsort(-(features @ features[3]), kind="stable")[:4]
    assert [case["case_id"] for case in near] == [case_ids[i] for i in order]
    assert near[0]["label"] == data.classes[data.cases[data.rows[case_id]].label] and near[0]["picture"].startswith("data:image/jpeg")


def test_the_page_escapes_everything(client):
    found = client.post(
        "/", files=upload(png(), name="<script>alert(1)</script>\u202e.png"), data={"texts": "<b>一</b>\n=cmd|' /C calc'!A0"}
    )
    assert found.status_code == 200 and "<script" not in found.text and "<b>" not in found.text and "\u202e" not in found.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;\\u202e.png" in found.text and "&lt;b&gt;一&lt;/b&gt;" in found.text
    policy = found.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src" not in policy and "frame-ancestors 'none'" in policy
    assert found.headers["x-content-type-options"] == "nosniff" and found.headers["cache-control"] == "no-store"
    assert 'lang="zh-CN"' in client.get("/", headers={"accept-language": "zh-CN,en"}).text and 'lang="en"' in client.get("/").text


@pytest.mark.parametrize(
    ("files", "data", "message"),
    [
        ([], {}, "images: there is none. Choose one or more image files"),
        (upload(b"GIF89a not one of ours", name="a.png"), {}, "a.png: not an image, or a damaged one. Replace or remove the file"),
        (upload(b"%!PS-Adobe-3.0 EPSF", name="a.eps"), {}, "a.eps: not an image, or a damaged one. Replace or remove the file"),
        (upload(b"", name="empty.png"), {}, "empty.png: the file is empty (zero bytes). Replace or remove it"),
        (upload(png()[:60]), {}, "图 1.png: "),
        (upload(*[png()] * 4), {}, "images: 4 files, but at most 3 at a time"),
        (upload(png(size=400)), {}, "images: 0 million pixels, but at most 0.1 at a time. Downscale them"),
        (upload(png()), {"texts": "only one"}, "texts: a single class ('only one') would always have probability 1."),
        (upload(png()), {"texts": [str(i) for i in range(5)]}, "texts: 5 lines, but at most 4 at a time"),
        (upload(png()), {"texts": ["x" * 101, "y"]}, "texts: a text of 101 characters, but at most 100 are allowed"),
    ],
)
def test_bad_requests(client, files, data, message):
    if not files:
        files = [("other", ("", b""))]
    found = client.post("/api/predict", files=files, data=data)
    assert found.status_code == 400 and found.json()["error"].startswith(message), found.text
    page = client.post("/", files=files, data=data)
    assert page.status_code == 400 and 'role="alert"' in page.text


def test_limits_hosts_and_other_sites(client):
    large = client.post("/api/predict", files=upload(b"x" * 700_000))
    assert large.status_code == 413 and large.json()["error"].startswith("the request is larger than 0.6 MB")

    def body():  # without a stated length
        for _ in range(80):
            yield b"x" * 10_000

    head = {"content-type": "multipart/form-data; boundary=b"}
    assert client.post("/api/predict", content=body(), headers=head).status_code == 413
    assert client.get("/", headers={"host": "evil.example"}).status_code == 400
    assert client.post("/api/predict", files=upload(png()), headers={"origin": "http://evil.example"}).status_code == 403
    assert client.post("/api/predict", files=upload(png()), headers={"origin": "http://testserver"}).status_code == 200
    assert client.get("/api/none").json()["error"] == "Not Found" and client.get("/api/predict").status_code == 405
    assert client.get("/api/model").json()["limits"]["images"] == 3


def test_a_classifier_reads_no_texts():
    class Model:
        classes, reads_texts = ("a", "b"), False

    from clipzoo.errors import BuildError

    with pytest.raises(BuildError, match="a classifier without a text tower. Leave the texts empty"):
        Service(Model()).answer(Question([("a.png", png())], ["x", "y"]))


@pytest.mark.slow
def test_in_a_browser(browser, trained, tmp_path):
    """A real server, a real Chromium, a real upload: twice, in both languages."""
    import socket
    import threading
    import time

    import uvicorn

    from clipzoo.serving.app import make_app
    from clipzoo.serving.neighbours import training_cases

    folder, model, _ = trained
    data, case_ids = training_cases(folder)
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    address = f"http://127.0.0.1:{listening.getsockname()[1]}/"
    server = uvicorn.Server(
        uvicorn.Config(make_app(Service(model, Neighbours(model, data, case_ids)), hosts=["127.0.0.1"]), log_level="error")
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    try:
        path = tmp_path / "图 <1>.png"
        path.write_bytes(png(5))
        for language, dark, width in (("en-US", False, 1280), ("zh-CN", True, 420)):
            visit = browser.open(address, language=language, dark=dark, width=width)
            assert visit.violations() == []
            visit.page.set_input_files("#images", str(path))
            visit.page.fill("#texts", "一个方块\na disc\nعين")
            visit.page.click("button[type=submit]")
            visit.page.wait_for_selector("article")
            assert visit.page.inner_text("article h3") == "图 <1>.png"
            shown = visit.page.locator("article .row").all_inner_texts()
            wanted = model.classify([path], ["一个方块", "a disc", "عين"]).top(3)[0]
            assert [text.split("\n") for text in shown] == [[label, f"{p:.4f}"] for label, p in wanted]
            assert visit.page.locator("article .pictures img").count() == 2 and visit.page.locator("article tbody tr").count() == 4
            assert visit.violations() == [] and visit.console == [] and not visit.scrolls_sideways()
            assert visit.page.input_value("#texts") == "一个方块\na disc\nعين"
            visit.screenshot(tmp_path / f"{language}.png")
    finally:
        server.should_exit = True
        thread.join(10)
