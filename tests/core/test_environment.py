"""One environment, told once: packaging, lock, conda, Makefile, Dockerfile and CI must agree."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions, version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCK, MAKEFILE, DOCKERFILE = (
    (ROOT / name).read_text(encoding="utf-8") for name in ("requirements.txt", "Makefile", "Dockerfile")
)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
GROUPS = {"": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}
ALL = [Requirement(line) for lines in GROUPS.values() for line in lines]
DIRECT = [requirement for requirement in ALL if requirement.name != PROJECT["name"]]
PYTHONS = [f"3.{n}" for n in range(30) if f"3.{n}" in SpecifierSet(PROJECT["requires-python"])]


def pins() -> list[tuple[Requirement, list[str]]]:
    """Read the lock's requirements, each with its hashes."""
    lines = LOCK.replace("\\\n", " ").splitlines()
    entries = [line.split(" --hash=") for line in lines if line[:1].isalnum()]
    return [(Requirement(requirement), [h.strip() for h in hashes]) for requirement, *hashes in entries]


PINNED = {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin, _ in pins()}


def found(pattern: str, text: str) -> str:
    """Return the one group of a pattern that occurs exactly once."""
    (match,) = re.findall(pattern, text)
    return match


def test_lock_pins_each_package_once_with_hashes():
    for pin, hashes in pins():
        assert re.fullmatch(r"==[^,*]+", str(pin.specifier)), f"{pin.name} is not pinned to one version"
        assert hashes, f"{pin.name} has no hash"
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", h) for h in hashes), f"{pin.name}: {hashes}"
    assert len(PINNED) == len(pins())


def test_lock_names_no_address():
    assert "://" not in LOCK
    assert not re.search(r"^\s*-[-\w]*(index|find|trusted)", LOCK, re.MULTILINE)


@pytest.mark.parametrize("wanted", DIRECT, ids=lambda requirement: requirement.name)
def test_direct_dependency_is_locked_and_installed(wanted):
    pinned = PINNED[canonicalize_name(wanted.name)]
    assert wanted.specifier.contains(pinned, prereleases=True)
    assert version(wanted.name).split("+")[0] == pinned


def test_conda_installs_the_lock_on_a_supported_python():
    *packages, pip = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    assert pip == {"pip": ["-r requirements.txt"]}
    assert found(r"^python=(.+)$", "\n".join(p for p in packages if p.startswith("python"))) in PYTHONS


def test_makefile_accepts_the_supported_pythons():
    low, high = (
        tuple(map(int, bound.split(",")))
        for bound in re.search(r"\(([\d, ]+)\) <= .* < \(([\d, ]+)\)", MAKEFILE).groups()
    )
    assert [f"3.{n}" for n in range(30) if low <= (3, n) < high] == PYTHONS
    assert found(r'"Python (.+) is needed', MAKEFILE) == f"{', '.join(PYTHONS[:-1])} or {PYTHONS[-1]}"
    assert found(r"--python-version (\S+)", MAKEFILE) == PYTHONS[0]


def test_docker_uses_a_supported_python_and_the_same_uv():
    assert found(r"FROM python:(\d+\.\d+)-", DOCKERFILE) in PYTHONS
    assert found(r"\buv==(\S+)", DOCKERFILE) == found(r"\buv==(\S+)", MAKEFILE)


def test_ci_runs_every_supported_python():
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    assert workflow["jobs"]["test"]["strategy"]["matrix"]["python"] == PYTHONS


def test_each_package_is_in_one_group():
    names = [canonicalize_name(requirement.name) for requirement in DIRECT]
    assert sorted(names) == sorted(set(names))


def needed_by(requirements: list[str]) -> set[str]:
    """Return the distributions that requirements need, directly or through others, on this machine."""
    found: set[str] = set()
    queue = [(Requirement(line), "") for line in requirements]
    while queue:
        requirement, extra = queue.pop()
        name = canonicalize_name(requirement.name)
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        try:
            lines = distribution(name).requires or []
        except PackageNotFoundError:
            continue  # optional, and not there
        if name not in found:
            found.add(name)
            queue += [(Requirement(line), extra) for line in lines for extra in ("", *requirement.extras)]
    return found


# Importing anything that belongs to none of the distributions named on the command line fails.
_ALONE = """
import sys
from importlib.abc import MetaPathFinder

refused = set(sys.argv[1].split(","))

class Refuse(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in refused:
            raise ModuleNotFoundError(f"{name} is in no package of the group", name=name)

sys.meta_path.insert(0, Refuse())
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("group", "code"),
    [
        ("", "import lib.__main__, lib.inference.predict_files"),
        ("service", "from lib.serving.app import create_app; create_app().openapi()"),
    ],
    ids=["command line", "service"],
)
def test_group_holds_all_that_it_needs(group: str, code: str):
    needed = needed_by(GROUPS[""] + (GROUPS[group] if group else []))
    refused = {
        module
        for module, owners in packages_distributions().items()
        if not needed & {canonicalize_name(owner) for owner in owners} and module != "lib"
    }
    assert {"torch", "pandas", "sklearn", "matplotlib"} <= refused
    run = subprocess.run(
        [sys.executable, "-c", _ALONE + code, ",".join(refused)], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr[-2000:]


def test_docker_image_of_the_service_installs_its_group():
    assert '".[service]"' in DOCKERFILE
