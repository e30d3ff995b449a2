"""Processes that judge: the network computes on other cores than the one where HTTP runs."""

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

import numpy as np

from lib.files import ROOT
from lib.model import Model

_LENGTH = struct.Struct("<Q")  # of a message, goes before it


class Judge:
    """Judge pictures in another process; one that died is replaced at the next call.

    Calls are answered in turn: one that comes while another is judged saves the process the wait for it.
    """

    def __init__(self, model: Path, threads: int) -> None:
        self._command = [sys.executable, "-m", "lib.judges", str(model.resolve()), str(threads)]
        self._process: Process | None = None
        self._turn = asyncio.Lock()

    async def start(self) -> None:
        """Start the process and wait until its network is open."""
        self._process = await asyncio.create_subprocess_exec(*self._command, stdin=PIPE, stdout=PIPE, cwd=ROOT)
        await _answer(self._process)

    async def __call__(self, pictures: Sequence[np.ndarray]) -> list[float]:
        """Return the margin of each picture (uint8 32×32×3), as `Model.margins`; raise RuntimeError where it fails."""
        process = await self._alive()
        assert process.stdin
        _write(process.stdin, np.stack(pictures))
        async with self._turn:  # waiters get it in the order in which they wrote
            return await _answer(process)

    @property
    def pid(self) -> int | None:
        """Return the number of the process, if it was started."""
        return self._process.pid if self._process else None

    async def close(self) -> None:
        """End the process."""
        if self._process and self._process.stdin:
            self._process.stdin.close()
            await self._process.wait()

    async def _alive(self) -> Process:
        if self._process is None or self._process.returncode is not None:
            async with self._turn:  # once those are told whose pictures were lost with the old one
                if self._process is None or self._process.returncode is not None:
                    await self.start()
        assert self._process
        return self._process


async def _answer(process: Process) -> Any:
    assert process.stdout
    try:
        length = _LENGTH.unpack(await process.stdout.readexactly(_LENGTH.size))[0]
        answer = pickle.loads(await process.stdout.readexactly(length))
    except asyncio.IncompleteReadError:
        code = await process.wait()
        raise RuntimeError(f"the process that judges pictures ended with {code}") from None
    if isinstance(answer, Exception):
        raise RuntimeError("judging pictures failed") from answer
    return answer


def _write(stream: Any, message: object) -> None:
    content = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    stream.write(_LENGTH.pack(len(content)) + content)


def serve(path: str, threads: str) -> None:
    """Answer with margins what comes on the standard input, on the standard output, until the input ends."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the service decides when to end, after its last answer
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no answer
    model = Model(Path(path), int(threads))
    _write(answers, "ready")
    answers.flush()
    while head := sys.stdin.buffer.read(_LENGTH.size):
        try:
            answer: object = model.margins(pickle.loads(sys.stdin.buffer.read(*_LENGTH.unpack(head))))
        except Exception as error:  # one call's failure is not the next one's
            answer = error
        _write(answers, answer)
        answers.flush()


if __name__ == "__main__":
    serve(*sys.argv[1:])
