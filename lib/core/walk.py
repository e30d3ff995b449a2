"""All that is in folders and below them: hidden files left out, each folder listed once, links followed last."""

import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

# What file managers leave in folders, beside names with a dot: of macOS (in archives), Synology and Windows.
_HIDDEN = {"__MACOSX", "@eaDir", "Thumbs.db", "desktop.ini"}


@dataclass(frozen=True)
class Found:
    """Hold what lies in the folder number `root`, under the name `name` (relative to it, with slashes).

    `status` is that of a file, of whatever kind; `error` tells why there is none. Of a folder there is only one that
    could not be listed (`is_folder`, with an `error`) or that was listed before, under another name (`listed_as`).
    """

    root: int
    name: str
    status: os.stat_result | None = None
    error: OSError | None = None
    is_folder: bool = False
    listed_as: str | None = None


def walk(roots: Sequence[Path], link_order: Callable[[str], int] = lambda name: 0) -> Iterator[Found]:
    """Yield all that is in the folders `roots` and below, but for hidden files and the folders themselves.

    Links are followed, but no folder is listed twice, so a loop of links ends: of several ways to a folder the one
    without links counts, else the link that `link_order`, a key for its name, puts first. Siblings come sorted.
    """
    listed: dict[tuple[int, int], tuple[int, str]] = {}  # by device and inode
    folders = [(root, "") for root in reversed(range(len(roots)))]
    links: list[tuple[int, str]] = []
    while folders or links:
        links.sort(key=lambda link: link_order(link[1]))
        root, name = folders.pop() if folders else links.pop(0)
        path = roots[root] / name
        try:
            status = path.stat()
            first = listed.setdefault((status.st_dev, status.st_ino), (root, name))
            if first != (root, name):
                yield Found(root, name, is_folder=True, listed_as=first[1])
                continue
            with os.scandir(path) as entries:
                children = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            yield Found(root, name, error=error, is_folder=True)
            continue
        for child in children:
            below = f"{name}/{child.name}" if name else child.name
            if is_hidden(child.name):
                continue
            try:
                status = child.stat()
            except OSError as error:
                yield Found(root, below, error=error)
                continue
            if stat.S_ISDIR(status.st_mode):
                (links if child.is_symlink() else folders).append((root, below))
            else:
                yield Found(root, below, status)


def is_hidden(name: str) -> bool:
    """Return whether a file, or a folder around it, is one that a system hides or adds of its own."""
    parts = re.split(r"[/\\]", name)
    return any(part in _HIDDEN or (part.startswith(".") and part not in (".", "..")) for part in parts)
