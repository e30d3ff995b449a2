"""Disturb builds, sweeps and the service, and check that nothing is lost: `python benchmarks/faults.py [--seed N]`.

    --builds 20 --sweeps 10    kill -9 at a random moment, then the same command until it ends
    --disks 5                  the disk fills at a random moment of a build; space is freed, then the same command
    --crashes 10               kill -9 of the service under load, and a supervisor that starts it again
    --restarts 5               SIGTERM to the service under load, and a new start
    --whole                    builds run the whole pipeline instead of 01_data, 02_train and 04_evaluate
    --folder FOLDER            of outputs and results (default: outputs/benchmarks/faults)

A build is of the sample, small (see PARAMETERS). Weights, predictions, metrics and, of a sweep, the best parameters
must equal those of an undisturbed run, bit for bit. Each third kill ends the main process alone, its process group, or
all its processes at once. The full disk is a tmpfs for root; for others, files have a limit of size (RLIMIT_FSIZE).
All moments are drawn with the seed. Each round is a line of `results.jsonl`; the same call resumes after the last one.
Needs Linux; ends with a table, and with exit status 1 where anything was lost that must not be.
"""

import argparse
import asyncio
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import psutil
from faults_service import answers_of, disturb

from lib.core.errors import InputError
from lib.core.files import ROOT
from lib.core.lock import lock_folder
from lib.core.provenance import lib_hash, processor

PARAMETERS: dict[str, object] = {
    "source": "sample", "network": "plain_16_32", "epochs": 4, "max_train_samples": 600, "robustness": False,
    "accelerator": "cpu", "sweep_epochs": 2, "max_sweep_samples": 300, "student": "", "torch_compile": False,
    "cnn_baseline_epochs": 1, "vgg_epochs": 1, "max_baseline_samples": 100, "rounds": 2,
}  # fmt: skip
FILES = ("02_train/weights.safetensors", "04_evaluate/predictions.csv", "04_evaluate/metrics.json", "sweep/best.yaml")
TARGETS = {"build": "04_evaluate", "sweep": "03_sweep", "disk": "04_evaluate"}
SIGNALS = {"crash": signal.SIGKILL, "restart": signal.SIGTERM}
KILLS = ("main process", "process group", "all processes")
GRACE = 60  # seconds in which processes that are left must end by themselves
LIMIT = 1800  # seconds for one command
DISK = 256 * 2**20  # bytes of the tmpfs
_MARK = "FAULTS_ROUND"  # in the environment of all processes of a round


@dataclass
class Campaign:
    """Hold what the rounds share: the folder, the seed, and which commands run."""

    folder: Path
    seed: int
    whole: bool

    @property
    def outputs(self) -> Path:
        return self.folder / "disk" / "outputs"  # at one path in all rounds, with and without a file system of its own

    def start(self, target: str, mark: str, limit: int = 0) -> subprocess.Popen:
        """Start a build of the small sample in a process group of its own; `limit` is the largest file, in bytes."""
        partially = [] if self.whole and target == "04_evaluate" else ["--partially", target]
        given = {**PARAMETERS, "outputs": self.outputs}
        options = [text for name, value in given.items() for text in (f"--env--{name}", _yaml(value))]
        for name in ("home", "tmp"):
            (self.folder / name).mkdir(exist_ok=True)
        env = {name: value for name, value in os.environ.items() if name != "WANDB_API_KEY"}
        env |= {_MARK: f"{self.folder} {mark}", "HOME": str(self.folder / "home"), "TMPDIR": str(self.folder / "tmp")}
        env |= {"PLOOMBER_STATS_ENABLED": "false", "PLOOMBER_ENV_FILENAME": "env.yaml", "WANDB_MODE": "offline"}
        with (self.folder / "log.txt").open("w") as log:
            return subprocess.Popen(
                [str(Path(sys.executable).with_name("ploomber")), "build", *partially, *options], cwd=ROOT, env=env,
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
                preexec_fn=(lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))) if limit else None,
            )  # fmt: skip

    def marked(self, mark: str = "") -> list[psutil.Process]:
        """Return the processes of the rounds with this mark, by default of all."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            try:
                ours = process.environ().get(_MARK, "").startswith(f"{self.folder} {mark}")
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def kill(self, process: subprocess.Popen, mark: str, what: str) -> None:
        if what == "main process":
            process.kill()
        elif what == "process group":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            while processes := self.marked(mark):
                for each in processes:
                    with suppress(psutil.NoSuchProcess):
                        each.kill()
                process.poll()
        process.wait()

    def wait(self, process: subprocess.Popen, mark: str) -> int | None:
        """Return the exit status, or None for a run that hangs, which is killed."""
        try:
            return process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            self.kill(process, mark, "all processes")
            return None

    def clear(self) -> None:
        for process in self.marked():  # of a campaign that was killed
            with suppress(psutil.NoSuchProcess):
                process.kill()
        if (self.folder / "disk").is_mount():
            subprocess.run(["umount", "--lazy", self.folder / "disk"], check=True)
        for name in ("disk", "tmp"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        self.outputs.mkdir(parents=True)

    def digests(self) -> dict[str, str]:
        """Return the SHA-256 of the results; none of them holds a time or a path."""
        files = [path for path in map(self.outputs.joinpath, FILES) if path.is_file()]
        return {str(it.relative_to(self.outputs)): hashlib.sha256(it.read_bytes()).hexdigest() for it in files}

    def last_line(self) -> str:
        lines = (self.folder / "log.txt").read_text(errors="replace").split("\n")
        errors = [line for line in lines if "InputError: " in line] or [line for line in lines if line.strip()] or [""]
        return errors[-1].strip()[:300]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, count in (("builds", 20), ("sweeps", 10), ("disks", 5), ("crashes", 10), ("restarts", 5), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=count)
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--folder", type=Path, default=ROOT / "outputs" / "benchmarks" / "faults")
    given = parser.parse_args()
    campaign = Campaign(given.folder.absolute(), given.seed, given.whole)
    counts = {
        "build": given.builds, "sweep": given.sweeps, "disk": given.disks, "crash": given.crashes,
        "restart": given.restarts,
    }  # fmt: skip
    try:
        lock = lock_folder(campaign.folder, f"another campaign runs in {campaign.folder}")
    except InputError as error:
        sys.exit(str(error))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped: the same command goes on"))
    try:
        rows = run(campaign, counts)
    finally:
        campaign.clear()
        lock.release()
    print(f"\n{processor()}, {joblib.cpu_count()} cores, seed {given.seed}\n")
    print("\n".join([*build_table(rows), "", *service_table(rows)]))
    sys.exit(any(map(faults, rows)))


def run(campaign: Campaign, counts: dict[str, int]) -> list[dict[str, Any]]:
    """Run the rounds that `results.jsonl` lacks, and return the rows of all."""
    path = campaign.folder / "results.jsonl"
    notebooks = ("01_data", "02_train", "03_sweep", "04_evaluate")
    pipeline = ",".join(lib_hash(notebook=name, module="core.pipeline") for name in notebooks)
    service = {"seed": campaign.seed, "code": lib_hash(module="__main__")}
    build = {"seed": campaign.seed, "code": pipeline, "whole": campaign.whole, "parameters": PARAMETERS}
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    old = [_parsed(line) for line in lines]
    rows = []

    def result(kind: str, number: int, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        same = {"kind": kind, "number": number, **(service if kind in SIGNALS else build)}
        for row in old:
            if same.items() <= row.items():
                return row
        row = {**same, **measure()}
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        shown = {key: value for key, value in row.items() if key in ("kind", "number") or key not in same}
        print(json.dumps(shown), *(f"FAULT: {it}" for it in faults(row)), flush=True)
        return row

    references: dict[str, dict[str, Any]] = {}

    def reference(kind: str) -> dict[str, Any]:
        target = TARGETS[kind]
        if target not in references:
            references[target] = result(f"undisturbed {target}", 0, lambda: undisturbed(campaign, target))
        return references[target]

    for kind, count in counts.items():
        for number in range(count):
            draw = random.Random(f"{campaign.seed} {kind} {number}")
            if kind in TARGETS:
                disturbed = full_disk if kind == "disk" else killed
                rows.append(
                    result(kind, number, lambda: disturbed(campaign, kind, number, reference(kind), draw))  # noqa: B023
                )
            else:
                images = answers_of(campaign.folder)
                moment = draw.uniform(0.5, 3)
                rows.append(
                    result(kind, number, lambda: asyncio.run(disturb(images, SIGNALS[kind], moment)))  # noqa: B023
                )
    return rows


def undisturbed(campaign: Campaign, target: str) -> dict[str, Any]:
    campaign.clear()
    start = time.perf_counter()
    if campaign.start(target, mark := uuid.uuid4().hex).wait(LIMIT):
        sys.exit(f"the undisturbed run failed: {campaign.last_line()}; see {campaign.folder / 'log.txt'}")
    seconds = time.perf_counter() - start
    sizes = [it.stat().st_size for it in campaign.outputs.rglob("*") if it.is_file()]
    return {
        "seconds": round(seconds, 1), "digests": campaign.digests(), "sizes": sorted(sizes)[-20:],
        **left_behind(campaign, mark),
    }  # fmt: skip


def killed(campaign: Campaign, kind: str, number: int, wanted: dict[str, Any], draw: random.Random) -> dict[str, Any]:
    """Kill a build or a sweep at a random moment, run the same command at once, and compare."""
    campaign.clear()
    moment, what = draw.uniform(0, wanted["seconds"]), KILLS[number % len(KILLS)]
    process = campaign.start(TARGETS[kind], first := uuid.uuid4().hex)
    try:
        process.wait(moment)
        what = "nothing: it had ended"
    except subprocess.TimeoutExpired:
        campaign.kill(process, first, what)
    return {"killed": what, "moment": round(moment, 1), "step": step(campaign), **again(campaign, kind, wanted, first)}


def full_disk(
    campaign: Campaign, kind: str, number: int, wanted: dict[str, Any], draw: random.Random
) -> dict[str, Any]:
    """Let a build meet a full disk at a random moment, free the space, run the same command, and compare."""
    campaign.clear()
    moment, room, limit = draw.uniform(0, wanted["seconds"]), draw.randrange(2**16), draw.choice(wanted["sizes"]) // 2
    first = uuid.uuid4().hex
    with tmpfs(campaign.folder / "disk") as mounted:
        campaign.outputs.mkdir(exist_ok=True)
        process = campaign.start(TARGETS[kind], first, 0 if mounted else limit)
        ballast = campaign.folder / "disk" / "ballast"
        if mounted:
            time.sleep(moment)
            fill(ballast, room)
        code, at = campaign.wait(process, first), step(campaign)
        message = campaign.last_line() if code != 0 else ""
        ballast.unlink(missing_ok=True)
        how = {"moment": round(moment, 1), "room": room} if mounted else {"limit": limit}
        return {**how, "step": at, "exit_full": code, "message": message, **again(campaign, kind, wanted, first)}


def again(campaign: Campaign, kind: str, wanted: dict[str, Any], first: str) -> dict[str, Any]:
    """Run the same command to its end; return how it differs from the undisturbed one, and what is left behind."""
    start = time.perf_counter()
    process, lived = campaign.start(TARGETS[kind], second := uuid.uuid4().hex), 0.0
    while process.poll() is None and campaign.marked(first):
        lived = time.perf_counter() - start
        time.sleep(0.1)
    code = campaign.wait(process, second)
    seconds, digests = time.perf_counter() - start, campaign.digests()
    different = [name for name in {**wanted["digests"], **digests} if wanted["digests"].get(name) != digests.get(name)]
    return {
        "exit": code, "error": campaign.last_line() if code != 0 else "", "seconds": round(seconds, 1),
        "undisturbed": wanted["seconds"], "different": different, "outlived": round(lived, 1),
        **left_behind(campaign, first, second),
    }  # fmt: skip


def left_behind(campaign: Campaign, *marks: str) -> dict[str, list[str]]:
    """Return the processes that do not end by themselves, and the temporary files and folders."""
    end = time.perf_counter() + GRACE
    while (processes := [it for mark in marks for it in campaign.marked(mark)]) and time.perf_counter() < end:
        time.sleep(0.2)
    temporary = [it for pattern in (".*.partial", ".*.previous") for it in campaign.outputs.rglob(pattern)]
    return {
        "orphans": [" ".join(it.info["cmdline"] or ())[:200] for it in processes if it.is_running()],
        "temporary": [str(it.relative_to(campaign.outputs)) for it in temporary],
    }


def step(campaign: Campaign) -> str:
    """Return the step that had begun last."""
    return max((it.name for it in campaign.outputs.glob("0*")), default="start")


@contextmanager
def tmpfs(folder: Path) -> Iterator[bool]:
    """Mount a small file system at `folder`; yield whether that was allowed."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)]
    mounted = os.geteuid() == 0 and subprocess.run(command, capture_output=True).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", folder], check=True)


def fill(ballast: Path, room: int) -> None:
    """Fill the file system of `ballast` but for `room` bytes, whatever else is written to it meanwhile."""
    with ballast.open("wb") as file:
        while True:
            status = os.fstatvfs(file.fileno())
            space = status.f_bavail * status.f_frsize - room
            if space < status.f_frsize:
                return
            try:
                os.posix_fallocate(file.fileno(), ballast.stat().st_size, space)
            except OSError:
                continue  # the build has taken some of it


def faults(row: dict[str, Any]) -> list[str]:
    """Return what went wrong in a round."""
    if row["kind"] in SIGNALS:
        names = ("wrong", "lost_later") if row["kind"] == "crash" else ("wrong", "lost_in_flight", "lost_later")
        return [f"{row[name]} {name}" for name in names if row[name]] + [f"orphan {it}" for it in row["orphans"]]
    found = [f"exit status {row['exit']}: {row['error']}"] if row.get("exit") != 0 and "exit" in row else []
    found += [f"different {name}" for name in row.get("different", ())]
    return found + [f"orphan {it}" for it in row["orphans"]] + [f"left {it}" for it in row["temporary"]]


def build_table(rows: list[dict[str, Any]]) -> Iterator[str]:
    titles = {"build": "kill -9 of a build", "sweep": "kill -9 of a sweep", "disk": "full disk in a build"}
    yield (
        "| fault | rounds | of them it stopped the run | results equal, bit for bit | not equal, or failed "
        "| processes that did not end by themselves | the longest that one outlived the kill, s "
        "| temporary files left | work done twice, s: median (most) |"
    )
    yield "|" + "---|" * 9
    for kind, title in titles.items():
        if mine := [row for row in rows if row["kind"] == kind]:
            stopped = [it for it in mine if it.get("exit_full") or it.get("killed") in KILLS]
            bad = sum(it["exit"] != 0 or bool(it["different"]) for it in mine)
            lost = [max(0.0, it["moment"] + it["seconds"] - it["undisturbed"]) for it in stopped if "moment" in it]
            twice = f"{statistics.median(lost):.0f} ({max(lost):.0f})" if lost else "–"
            left = [sum(len(it[name]) for it in mine) for name in ("orphans", "temporary")]
            outlived = max(it["outlived"] for it in mine)
            cells = (title, len(mine), len(stopped), len(mine) - bad, bad, left[0], outlived, left[1], twice)
            yield f"| {' | '.join(map(str, cells))} |"


def service_table(rows: list[dict[str, Any]]) -> Iterator[str]:
    titles = {"crash": "kill -9 of the service", "restart": "SIGTERM to the service"}
    yield (
        "| fault, under load | rounds | requests | answered rightly | answered wrongly | 503 | in flight at the signal "
        "| of them lost | lost later | connections refused, and tried again | without service, s: mean (most) |"
    )
    yield "|" + "---|" * 11
    for kind, title in titles.items():
        if mine := [row for row in rows if row["kind"] == kind]:
            names = ("requests", "right", "wrong", "busy", "in_flight", "lost_in_flight", "lost_later", "refused")
            sums = [f"{sum(it[name] for it in mine):,}" for name in names]
            down = [it["down"] for it in mine]
            cells = [title, str(len(mine)), *sums, f"{statistics.mean(down):.1f} ({max(down):.1f})"]
            yield f"| {' | '.join(cells)} |"


def _yaml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _parsed(line: str) -> dict[str, Any]:
    try:
        return dict(json.loads(line))
    except ValueError:  # half a line of a campaign that was killed
        return {}


if __name__ == "__main__":
    main()
