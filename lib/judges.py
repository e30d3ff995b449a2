"""Processes that judge: what a picture costs is paid on other cores than the one where HTTP runs."""

import asyncio
import os
import pickle
import signal
import struct
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lib.files import ROOT
from lib.judge import Item, Seen, judge
from lib.model import Model

_LENGTH = struct.Struct("<Q")  # of a message, goes before it


class Judge:
    """Call `judge` in another process, one call at a time; a process that died is replaced at the next call."""

    def __init__(self, model: Path, threads: int) -> None:
        self._command = [sys.executable, "-m", "lib.judges", str(model.resolve()), str(threads)]
        self._process: Process | None = None

    async def start(self) -> None:
        """Start the process and wait until its network is open."""
        self._process = await asyncio.create_subprocess_exec(*self._command, stdin=PIPE, stdout=PIPE, cwd=ROOT)
        await self._answer()

    async def __call__(self, items: Sequence[Item]) -> list[Seen]:
        """Return what `judge` makes of the items; raise RuntimeError where it, or its process, fails."""
        if self._process is None or self._process.returncode is not None:
            await self.start()
        assert self._process and self._process.stdin
        _write(self._process.stdin, items)
        return await self._answer()

    @property
    def pid(self) -> int | None:
        """Return the number of the process, if it was started."""
        return self._process.pid if self._process else None

    async def close(self) -> None:
        """End the process."""
        if self._process and self._process.stdin:
            self._process.stdin.close()
            await self._process.wait()

    async def _answer(self) -> Any:
        assert self._process and self._process.stdout
        try:
            length = _LENGTH.unpack(await self._process.stdout.readexactly(_LENGTH.size))[0]
            answer = pickle.loads(await self._process.stdout.readexactly(length))
        except asyncio.IncompleteReadError:
            code = await self._process.wait()
            raise RuntimeError(f"the process that judges pictures ended with {code}") from None
        if isinstance(answer, Exception):
            raise RuntimeError("judging pictures failed") from answer
        return answer


def _write(stream: Any, message: object) -> None:
    content = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    stream.write(_LENGTH.pack(len(content)) + content)


def serve(path: str, threads: str) -> None:
    """Answer calls of `judge` on the standard input and output until the input ends."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the service decides when to end, after its last answer
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no answer
    model = Model(Path(path), int(threads))
    _write(answers, "ready")
    answers.flush()
    while head := sys.stdin.buffer.read(_LENGTH.size):
        try:
            answer: object = judge(model, pickle.loads(sys.stdin.buffer.read(*_LENGTH.unpack(head))))
        except Exception as error:  # one call's failure is not the next one's
            answer = error
        _write(answers, answer)
        answers.flush()


if __name__ == "__main__":
    serve(*sys.argv[1:])
