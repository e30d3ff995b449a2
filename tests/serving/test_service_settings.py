"""The service's settings, from the environment and from a file."""

from pathlib import Path

import pytest

from lib.core.errors import InputError
from lib.serving.app import create_app
from lib.serving.settings import Settings, read_settings


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CIFAKE_SETTINGS", str(tmp_path / "service.yaml"))
    return tmp_path / "service.yaml"


def test_the_environment_overrides_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("max_queue_size: 7\nmax_body: 1 MiB\nmax_batch_size: 3\n")
    monkeypatch.setenv("CIFAKE_MAX_BATCH_SIZE", "5")
    settings = read_settings()
    assert (settings.max_queue_size, settings.max_body, settings.max_batch_size) == (7, 2**20, 5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("workers: many", r"^CIFAKE_WORKERS is 'many': input should be a valid integer"),
        ("workers: 0", r"^CIFAKE_WORKERS is 0: input should be greater than or equal to 1"),
        (
            "max_body_memory: 1 MiB",
            r"^CIFAKE_MAX_BODY_MEMORY is '1 MiB': it should be at least CIFAKE_MAX_BODY",
        ),
        ("max_body: 1 GiB", r"^CIFAKE_MAX_BODY_MEMORY is 268435456: it should be at least CIFAKE_MAX_BODY, 1073741824"),
        ("cors_origins: https://a.example/", r"^CIFAKE_CORS_ORIGINS is .*: https://a.example/ is no origin: write"),
        ("cors_origins: [a.example]", r"^CIFAKE_CORS_ORIGINS is .*: a.example is no origin: write https://example.org"),
        ("cors_origins: 1", r"^CIFAKE_CORS_ORIGINS is 1: input should be a valid tuple"),
        ("wokers: 1", r"service.yaml: 'wokers' is no setting: did you mean 'workers'\?"),
        ("- 1", r"service.yaml holds no settings"),
        ("1: 2", r"service.yaml holds no settings"),
        ("hello", r"service.yaml holds no settings"),
        ("a: [", r"service.yaml holds no settings"),
    ],
)
def test_wrong_settings_are_named(file: Path, content: str, message: str) -> None:
    file.write_text(content)
    with pytest.raises(InputError, match=message):
        read_settings()
    with pytest.raises(SystemExit, match=message):
        create_app()


def test_a_missing_file_is_named(file: Path) -> None:
    with pytest.raises(InputError, match=r"CIFAKE_SETTINGS: .*service.yaml cannot be read"):
        read_settings()


def test_misspelt_variables_are_refused_with_the_nearest_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIFAKE_PORT_8000_TCP", "tcp://10.0.0.1:8000")  # as Kubernetes sets for a service "cifake"
    read_settings()
    monkeypatch.setenv("CIFAKE_MAXBODY", "1")
    with pytest.raises(InputError, match=r"^CIFAKE_MAXBODY is no setting: did you mean 'CIFAKE_MAX_BODY'\?"):
        read_settings()


def test_origins_are_written_with_commas_or_as_a_list(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().cors_origins == ()
    file.write_text("cors_origins: [https://a.example, 'http://localhost:3000']")
    assert read_settings().cors_origins == ("https://a.example", "http://localhost:3000")
    for given, origins in (
        ("", ()),
        ("*", ("*",)),
        (" https://A.example,http://b ", ("https://a.example", "http://b")),
    ):
        monkeypatch.setenv("CIFAKE_CORS_ORIGINS", given)
        assert read_settings().cors_origins == origins


def test_workers_leave_one_usable_core(monkeypatch: pytest.MonkeyPatch) -> None:
    for usable, workers in ((1, 1), (2, 1), (3, 2), (64, 63)):
        monkeypatch.setattr("joblib.cpu_count", lambda usable=usable: usable)  # the least of cores, affinity and quota
        assert Settings().workers == workers
