"""The Makefile, with programs in place of Python, uv and Ploomber that only record how they were called."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lib.core.files import ROOT

pytestmark = pytest.mark.skipif(shutil.which("make") is None or sys.platform == "win32", reason="needs make")

PYTHON = f"""#!/bin/bash
case "$*" in
    *_base_executable*) echo "$0" ;;
    *"import pip"*) test -e .venv/pip && echo 3 11 ;;
    *"import site"*) echo .venv ;;
    "-m venv"*) echo venv >> calls; mkdir -p .venv/bin; cp "$0" .venv/bin/python; touch .venv/pip
        for program in uv ploomber; do
            printf '%s\\n' '#!/bin/bash' 'printf "%s\\n" "$(basename "$0")" "$@" >> calls' > .venv/bin/$program
            chmod +x .venv/bin/$program
        done ;;
    "-m pip"*) ;;
    *) exec {sys.executable} "$@" ;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Write a checkout in a folder with a space, and its Python; return it."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").write_text(PYTHON)
    (tmp_path / "bin" / "python3").chmod(0o755)
    folder = tmp_path / "a checkout"
    folder.mkdir()
    for name in ("Makefile", "env.yaml", "env.cpu.yaml", "requirements.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    return folder


def make(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "PLOOMBER"))}
    path = f"{checkout.parent / 'bin'}:/usr/bin:/bin"
    (checkout / "calls").unlink(missing_ok=True)
    for name in ("SOURCE", "SPEC", "PROFILE", "ARGS"):
        kept.pop(name, None)
    return subprocess.run(
        ["make", *arguments], cwd=checkout, env={**kept, "PATH": path, "HOME": "/home/some one"},
        capture_output=True, text=True,
    )  # fmt: skip


def calls(checkout: Path) -> list[str]:
    path = checkout / "calls"
    return path.read_text().splitlines() if path.is_file() else []


def argument(checkout: Path, flag: str) -> str:
    """Return what Ploomber was given for a flag."""
    given = calls(checkout)
    return given[given.index(flag) + 1]


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("~/a.zip", "/home/some one/a.zip"),
        ("/data/a b.zip", "/data/a b.zip"),
        ("a b.zip", "{here}/a b.zip"),
        ("sample", "sample"),
        ("kaggle", "kaggle"),
        ("./kaggle", "{here}/kaggle"),
        ("kaggle sample", "{here}/kaggle sample"),
        ("2024", "{here}/2024"),
        ("/data/$HOME/$x'\"`#.zip", "/data/$HOME/$x'\"`#.zip"),
    ],
)
def test_source_is_what_was_typed(checkout: Path, source: str, wanted: str) -> None:
    for name in ("a", "kaggle", "sample", "2024"):
        (checkout / name).mkdir()
    run = make(checkout, "build", f"SOURCE={source}")
    assert run.returncode == 0, run.stderr
    assert argument(checkout, "--env--source") == wanted.format(here=checkout)


@pytest.mark.parametrize("spec", ["~/s.yaml", "my sweeps/s $x.yaml", "parameters/it's.yaml"])
def test_specification_is_what_was_typed(checkout: Path, spec: str) -> None:
    assert make(checkout, "sweep", f"SPEC={spec}").returncode == 0
    assert argument(checkout, "--env--sweep") == spec, "lib expands ~, and begins relative paths at the checkout"


@pytest.mark.parametrize("target", ["build", "sweep"])
def test_unknown_profile_is_refused_before_any_work(checkout: Path, target: str) -> None:
    run = make(checkout, target, "PROFILE=foo bar")
    assert run.returncode != 0
    assert run.stderr.startswith(
        "PROFILE is foo bar, but there is no env.foo bar.yaml: choose sample, cpu, long or gpu.\n"
    )
    assert not (checkout / ".venv").exists()
    assert make(checkout, target, "PROFILE=cpu").returncode == 0


def test_environment_is_installed_once(checkout: Path) -> None:
    assert make(checkout, "build").returncode == 0
    assert calls(checkout).count("venv") == 1
    assert calls(checkout).count("uv") == 2, "the lock, and lib"
    assert make(checkout, "build").returncode == 0
    assert calls(checkout) == ["ploomber", "build"]


def test_environment_that_was_moved_or_is_broken_is_made_anew(checkout: Path) -> None:
    assert make(checkout, "build").returncode == 0
    copy = checkout.with_name("copy")
    shutil.copytree(checkout, copy)  # a copied checkout
    moved = checkout.rename(checkout.with_name("moved"))
    for folder in (copy, moved):
        assert make(folder, "build").returncode == 0
        assert calls(folder).count("venv") == 1
        assert "--reinstall" in calls(folder), "programs name the Python of the old place"
        assert make(folder, "build").returncode == 0
        assert calls(folder) == ["ploomber", "build"]
    (copy / ".venv" / "pip").unlink()  # no pip
    (moved / ".venv" / "bin" / "python").unlink()
    (moved / ".venv" / "bin" / "python").symlink_to("/no/such/python")  # its Python was removed
    for folder in (copy, moved):
        assert make(folder, "build").returncode == 0
        assert calls(folder).count("venv") == 1
