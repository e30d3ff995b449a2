"""The service, through its HTTP interface, with the released network."""

import io
import re
import shutil
import subprocess
import sys
import zlib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from conftest import encoded
from fastapi.testclient import TestClient
from PIL import Image

from lib.core.errors import InputError
from lib.core.files import ROOT
from lib.core.input_rule import InputRule
from lib.inference.images import decode_image
from lib.inference.limits import limits
from lib.inference.predictor import Calibration, Predictor, default_model_path
from lib.reporting.release import REFERENCE
from lib.serving.app import create_app

NOISE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(create_app()) as client:
        yield client


def predict(client: TestClient, content: bytes, query: str = ""):
    return client.post(f"/predict/{query}", files={"data": ("image", content)})


def test_health_names_the_running_version_and_the_data(client: TestClient) -> None:
    reply = client.get("/health")
    assert reply.status_code == 200
    assert reply.json() == {
        "status": "ok", "version": version("cifake-lab"), "trained_on": "CIFAKE", "input_rule": 1, "image_size": 32,
        "limits": limits(default_model_path()),
    }  # fmt: skip
    assert reply.json()["limits"] in client.get("/openapi.json").json()["info"]["description"]


def test_the_page_names_no_other_host_and_its_policy_allows_none(client: TestClient) -> None:
    reply = client.get("/")
    policy = dict(rule.split(" ", 1) for rule in reply.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["connect-src"] == "'self'"
    assert "unsafe" not in str(policy)
    assert set(re.findall(r"\w+://[^'\"\s]+", reply.text)) == {"http://www.w3.org/2000/svg"}, "a name, not an address"
    assert not re.search(r"\sstyle=|\son\w+=", reply.text), "which the policy would stop"


def test_prediction_is_that_of_the_network(client: TestClient) -> None:
    answer = predict(client, encoded(NOISE, "PNG")).json()
    (prediction,) = Predictor(default_model_path()).predict(NOISE[None])
    assert answer["probs"] == pytest.approx(prediction.probs)
    assert answer["prediction"] == max(answer["probs"], key=answer["probs"].get)
    assert sum(answer["probs"].values()) == pytest.approx(1)
    assert sum(answer["calibrated"].values()) == pytest.approx(1)
    assert answer["out_of_distribution"] is prediction.out_of_distribution


def test_unsure_is_predicted_only_when_asked_for(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = client.app.state.service.predictor
    monkeypatch.setattr(predictor, "calibration", Calibration(selective_threshold=1.1))
    assert predict(client, encoded(NOISE, "PNG")).json()["prediction"] in ("FAKE", "REAL")
    answer = predict(client, encoded(NOISE, "PNG"), "?unsure=true").json()
    assert (answer["prediction"], answer["unsure"]) == ("UNSURE", True)
    monkeypatch.setattr(predictor, "calibration", Calibration(selective_threshold=0.5))
    answer = predict(client, encoded(NOISE, "PNG"), "?unsure=true").json()
    assert (answer["prediction"] in ("FAKE", "REAL"), answer["warning"]) == (True, None)


def test_an_image_far_from_the_training_data_is_unsure_and_says_why(client: TestClient) -> None:
    blank = encoded(np.full((32, 32, 3), 200, np.uint8), "PNG")
    answer = predict(client, blank, "?unsure=true").json()
    assert (answer["prediction"], answer["unsure"], answer["out_of_distribution"]) == ("UNSURE", True, True)
    assert answer["warning"].startswith("the image is far from the training data")
    large = predict(client, encoded(np.full((64, 40, 3), 200, np.uint8), "PNG")).json()
    assert large["prediction"] in ("FAKE", "REAL"), "only asked for is UNSURE a prediction"
    assert "was resized" in large["warning"] and "far from the training data" in large["warning"]


MODES = {
    "JPEG": ("RGB", "L", "CMYK"),
    "PNG": ("RGB", "L", "P", "RGBA", "LA", "1"),
    "TIFF": ("RGB", "L", "CMYK", "P", "RGBA", "LA", "1"),
    "WEBP": ("RGB", "RGBA"),
}


@pytest.mark.parametrize(("form", "mode"), [(form, mode) for form, modes in MODES.items() for mode in modes])
def test_images_of_every_format_and_mode_are_classified(client: TestClient, mode: str, form: str) -> None:
    file = io.BytesIO()
    Image.fromarray(NOISE).convert(mode).resize((40, 30)).save(file, form)
    reply = predict(client, file.getvalue())
    assert reply.status_code == 200
    assert reply.json()["warning"].startswith("the image is 40×30 and was resized")


def test_sixteen_bits_transparency_and_orientation() -> None:
    deep = io.BytesIO()
    Image.fromarray(np.full((32, 32), 32896, np.uint16)).save(deep, "PNG")
    assert (decode_image(deep.getvalue(), InputRule()).pixels == 128).all()
    clear = encoded(np.zeros((32, 32, 4), np.uint8), "PNG", "RGBA")
    assert (decode_image(clear, InputRule()).pixels == 255).all(), "transparent pixels become white"
    rotated, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6  # to be rotated by a quarter, clockwise
    Image.fromarray(NOISE).save(rotated, "PNG", exif=exif)
    assert (decode_image(rotated.getvalue(), InputRule()).pixels == np.rot90(NOISE, -1)).all()


def huge() -> bytes:
    """Return a PNG of few bytes whose header declares 50,000×50,000 pixels."""
    content = bytearray(encoded(NOISE, "PNG"))
    content[16:24] = (50_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return bytes(content)


def animated() -> bytes:
    file = io.BytesIO()
    frames = [Image.fromarray(NOISE), Image.fromarray(NOISE[::-1].copy())]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    return file.getvalue()


BAD = {
    "empty": (lambda: b"", "the file is empty"),
    "text": (lambda: b"I am an image", "no image that can be read"),
    "truncated": (lambda: encoded(np.tile(NOISE, (8, 8, 1)))[:2000], "the image is damaged"),
    "huge": (huge, "too many pixels: send one of at most 50,000,000"),
    "animated": (animated, "the image is animated"),
    "svg": (lambda: b'<svg xmlns="http://www.w3.org/2000/svg"/>', "no image that can be read"),
    "heic": (lambda: b"\x00\x00\x00\x18ftypheic" + bytes(100), "no image that can be read"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_file_that_is_no_image_is_refused_with_a_sentence(client: TestClient, kind: str) -> None:
    content, message = BAD[kind]
    reply = predict(client, content())
    assert reply.status_code == 400
    assert message in reply.json()["detail"]
    assert predict(client, encoded(NOISE)).status_code == 200


def test_wrong_requests_are_refused_with_a_sentence(client: TestClient) -> None:
    assert client.get("/predict/").status_code == 405
    for path in ("/predict/", "/predict/batch"):
        reply = client.post(path, files={"file": ("x", encoded(NOISE))})
        assert reply.status_code == 422
        assert reply.json()["detail"].startswith("the multipart form has no field 'data': ")
    reply = predict(client, encoded(NOISE), "?unsure=perhaps")
    assert reply.status_code == 422
    assert reply.json()["detail"].startswith("the query parameter 'unsure' is of another type")
    assert client.get("/nothing").json() == {"detail": "there is nothing at this address: see /docs"}
    two = [("data", ("a", encoded(NOISE))), ("data", ("b", encoded(NOISE)))]
    assert client.post("/predict/", files=two).status_code == 400
    damaged = client.post("/predict/", content=b"--x", headers={"content-type": "multipart/form-data; boundary=x"})
    assert (damaged.status_code, damaged.json()) == (
        422,
        {"detail": "the multipart form ends too early: send it whole"},
    )


def test_bodies_are_limited_with_and_without_content_length(client: TestClient) -> None:
    most = client.app.state.service.settings.max_body
    sentence = {"detail": "the body is too large: send at most 20,971,520 bytes"}
    announced = predict(client, bytes(most))
    counted = client.post("/predict/", content=(bytes(2**20) for _ in range(22)))
    for reply in (announced, counted):
        assert (reply.status_code, reply.json()) == (413, sentence)
    form = client.build_request("POST", "/predict/", files={"data": ("x", encoded(NOISE))})
    streamed = client.post(
        "/predict/", content=iter([form.read()]), headers={"content-type": form.headers["content-type"]}
    )
    assert streamed.status_code == 200, "a body of unknown length is read"


@pytest.mark.parametrize("prefix", ["", "/x", "/x/y.z"])
def test_addresses_are_served_with_and_without_a_slash_and_counted_as_one(prefix: str) -> None:
    with TestClient(create_app(), f"http://x{prefix}", root_path=prefix, follow_redirects=False) as client:
        for path in ("/predict", "/predict/", "/predict/batch", "/predict/batch/"):
            assert client.post(path, files={"data": ("x", encoded(NOISE))}).status_code == 200
        for path in ("/health", "/health/", "/metrics", "/metrics/", "/docs", "/"):
            whole, empty = client.get(path), client.head(path)
            assert (whole.status_code, empty.status_code, empty.content) == (200, 200, b"")
            assert whole.headers["content-type"] == empty.headers["content-type"]
        assert client.get("/docs/").headers["location"] == "../docs"
        assert client.get("/docs/files/swagger-ui.css").status_code == 200
        assert client.head("/predict/").status_code == 405
        assert client.get("/nothing/").status_code == 404
        servers = client.get("/openapi.json").json().get("servers")
        series = client.get("/metrics").text
    assert servers == ([{"url": prefix}] if prefix else None), "which Swagger UI sends its requests to"
    for path, count in (("/predict/", 2), ("/predict/batch", 2), ("/health", 4), ("/docs", 2), ("/", 2)):
        assert f'cifake_requests_total{{code="200",path="{path}"}} {count}.0' in series
    assert 'cifake_requests_total{code="404",path="other"} 1.0' in series


PREFLIGHT = {"access-control-request-method": "POST", "access-control-request-headers": "x-token"}


def test_pages_of_other_origins_read_responses_only_where_the_settings_say_so(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, other = {"origin": "https://ours.example"}, {"origin": "https://other.example"}
    allowed = "access-control-allow-origin"
    assert client.options("/predict/", headers=ours | PREFLIGHT).status_code == 405
    assert allowed not in client.get("/health", headers=ours).headers
    for setting, theirs in (("http://a.example:81, https://Ours.example", None), ("*", "*")):
        monkeypatch.setenv("CIFAKE_CORS_ORIGINS", setting)
        with TestClient(create_app()) as open_client:
            assert open_client.options("/predict/", headers=ours | PREFLIGHT).status_code == 200
            for reply in (
                open_client.post("/predict", files={"data": ("x", encoded(NOISE))}, headers=ours),
                open_client.post("/predict/", headers=ours),
            ):
                assert reply.headers[allowed] in ("*", ours["origin"]), "a refusal can be read as well"
            assert open_client.get("/health", headers=other).headers.get(allowed) == theirs


def test_a_thousand_parts_are_refused(client: TestClient) -> None:
    many = [("data", (str(k), b"x")) for k in range(1000)]
    for address, most in (("/predict/", 8), ("/predict/batch", 64)):
        reply = client.post(address, files=many)
        assert (reply.status_code, reply.json()) == (
            413,
            {"detail": f"the form has more than {most} parts: send fewer"},
        )


def test_a_batch_is_classified_in_order_with_a_sentence_for_each_bad_file(client: TestClient) -> None:
    images = [encoded(np.roll(NOISE, k, 0), "PNG") for k in range(20)]
    contents = [*images[:7], b"no", *images[7:]]
    reply = client.post("/predict/batch", files=[("data", (str(k), c)) for k, c in enumerate(contents)])
    answers = reply.json()
    assert reply.status_code == 200
    assert answers.pop(7) == {"error": "the file is no image that can be read: send JPEG, PNG, WEBP, GIF, BMP, TIFF"}
    single = [predict(client, content).json() for content in images]
    batched, alone = (np.array([answer["probs"]["FAKE"] for answer in of]) for of in (answers, single))
    # Integers may round differently in a larger batch, by a step of one activation.
    np.testing.assert_allclose(batched, alone, atol=0.02)
    assert (np.abs(batched - np.roll(alone, 1)) > 0.05).any(), "too alike to show their order"


def mutants(count: int) -> Iterator[bytes]:
    rng = np.random.default_rng(0)
    originals = [encoded(np.tile(NOISE, (2, 2, 1)), form) for form in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP")]
    for turn in range(count):
        content = bytearray(originals[turn % len(originals)])
        for place in rng.integers(0, len(content), rng.integers(1, 9)):
            content[place] = rng.integers(0, 256)
        yield bytes(content[: rng.integers(1, len(content) + 1)] if turn % 3 else content)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow warns of damage that it tolerates
def test_mutated_images_never_cause_a_failure(client: TestClient) -> None:
    contents, classified = list(mutants(3000)), 0
    for start in range(0, len(contents), 60):
        files = [("data", ("x", content)) for content in contents[start : start + 60]]
        reply = client.post("/predict/batch", files=files)
        assert reply.status_code == 200
        assert len(reply.json()) == len(files)
        classified += sum("prediction" in answer for answer in reply.json())
    assert 300 < classified < 2700, "some are damaged and some are not"
    assert {predict(client, content).status_code for content in contents[:100]} == {200, 400}


def test_metrics_count_predictions_and_refusals(client: TestClient) -> None:
    def count(outcome: str) -> float:
        series = f'cifake_predictions_total{{outcome="{outcome}"}} '
        return sum(float(line.split()[1]) for line in client.get("/metrics").text.splitlines() if series in line)

    before = count("refused"), count("FAKE") + count("REAL")
    predict(client, b"")
    predict(client, encoded(NOISE))
    assert (count("refused"), count("FAKE") + count("REAL")) == (before[0] + 1, before[1] + 1)


@pytest.mark.skipif(sys.platform != "linux", reason="process metrics are read from /proc")
def test_metrics_include_memory(client: TestClient) -> None:
    (line,) = (it for it in client.get("/metrics").text.splitlines() if it.startswith("process_resident_memory_bytes "))
    assert float(line.split()[1]) > 1e7


def test_a_service_without_its_network_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, content, message in (("none", None, "is missing"), ("text", b"onnx?", "is not an ONNX file")):
        if content:
            (tmp_path / name).write_bytes(content)
        monkeypatch.setenv("CIFAKE_MODEL", str(tmp_path / name))
        with pytest.raises(SystemExit, match=message):
            create_app()


def test_a_network_without_metrics_is_not_calibrated_and_one_with_wrong_metrics_is_refused(tmp_path: Path) -> None:
    shutil.copy(REFERENCE / "model.onnx", tmp_path)
    (prediction,) = Predictor(tmp_path / "model.onnx").predict(NOISE[None])
    assert (prediction.probs, prediction.unsure) == (prediction.calibrated, None)
    (tmp_path / "metrics.json").write_text('{"data": "x"}')
    with pytest.raises(InputError, match=r"metrics.json lacks 'calibration'"):
        Predictor(tmp_path / "model.onnx")


@pytest.mark.slow
def test_service_and_command_line_need_no_torch() -> None:
    code = (
        "import sys, lib.serving.app, lib.__main__; sys.exit(bool({'torch', 'pandas', 'sklearn'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_a_request_without_a_query_gets_the_same_response_as_one_with_the_defaults(client: TestClient) -> None:
    requests = [
        {"files": {"data": ("x", encoded(NOISE))}},
        {"files": {"data": ("x", b"no image")}},
        {"files": {"data": ("x", b"")}},
        {"files": {"other": ("x", encoded(NOISE))}},
        {"files": [("data", ("x", encoded(NOISE)))] * 2},
        {"files": [("data", ("x", b"x"))] * 20},
        {"content": b"--x", "headers": {"content-type": "multipart/form-data; boundary=x"}},
        {"content": b"x" * 100},
    ]
    codes = []
    for request in requests:
        direct, validated = (client.post(f"/predict/{query}", **request) for query in ("", "?unsure=false"))
        codes.append(direct.status_code)
        assert (direct.status_code, direct.json(), direct.headers) == (
            validated.status_code,
            validated.json(),
            validated.headers,
        )
    assert codes == [200, 400, 400, 422, 400, 413, 422, 422]
