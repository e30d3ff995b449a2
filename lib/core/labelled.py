"""Images whose folders name their class, in the layouts that are in use: in a folder or a zip, one set or many."""

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

from lib import CLASSES
from lib.core.archive import open_archive
from lib.core.errors import InputError
from lib.core.file_set import FileSet, escaped, open_folder
from lib.core.sniff import is_meant_as_image

LAYOUTS = (CLASSES, ("1_fake", "0_real"), ("ai", "nature"))  # the folders of FAKE and of REAL, in any case
SPLITS = ("train", "test")  # folders around those of the classes, in any case
_FOLDERS = {name.lower(): (layout, label) for layout in LAYOUTS for label, name in enumerate(layout)}
_PREFERRED = {name.upper() for name in (*_FOLDERS, *SPLITS)}
_DESCRIPTIONS = "sets.csv"
_REMEDY = "put the images into folders " + ", or ".join(f"{fake} and {real}" for fake, real in LAYOUTS)


class LabelledFile(NamedTuple):
    """Name a file as its FileSet does, its class, and the layout that names the class.

    `parts` are the folders of its path and its own name, of which the one at `depth` is the folder of the class.
    """

    name: str
    label: int
    layout: tuple[str, str]
    parts: tuple[str, ...]
    depth: int

    @property
    def set_folders(self) -> tuple[str, ...]:
        """Return the folders around that of the class."""
        return self.parts[: self.depth]

    @property
    def split(self) -> str:
        """Return the split, of SPLITS, that a folder around that of the class names, or an empty string."""
        return next((name for name in map(str.lower, self.set_folders) if name in SPLITS), "")


@dataclass(frozen=True)
class LabelledImages:
    """Hold the files of labelled sets, sorted by their names.

    `sets` has the files of each set under the names of the folders around its class folders, without the first ones
    that all sets share, `shared` in number; `descriptions` what `sets.csv` says of each. `read` returns a file's
    content or raises InputError. `unusable` are files that cannot be read, with the end of a sentence that tells why,
    `unusable_folders` those named like a class or a split; `skipped` those that are no images, `outside` images that
    lie in no class folder.
    """

    location: str
    sets: dict[str, tuple[LabelledFile, ...]]
    read: Callable[[str], bytes] = field(repr=False)
    descriptions: dict[str, dict[str, str]] = field(default_factory=dict)
    unusable: dict[str, str] = field(default_factory=dict)
    unusable_folders: dict[str, str] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()
    shared: int = 0


def open_files(path: Path) -> FileSet:
    """List the files in a folder or a zip; of several ways to a folder, one named like a class or a split counts."""
    return open_folder(path, _PREFERRED) if path.is_dir() else open_archive(path)


def open_labelled(path: Path) -> LabelledImages:
    """Find the labelled sets in a folder or a zip.

    A class folder has one of the names in LAYOUTS. What is around it is a set, whatever is below belongs to the class.
    Raises InputError where there is nothing, no class folder with an image, two layouts in one set, or a class folder
    in another.
    """
    if not path.exists():
        raise InputError(f"{escaped(str(path))}: there is no such file or folder: check the path")
    location = escaped(str(path))
    files = open_files(path)
    places: list[LabelledFile] = []
    skipped, outside = [], []
    for name in sorted(files.states):
        place = _place(location, name)
        if not is_meant_as_image(name, lambda name=name: files.head(name)):
            skipped += [name] * (name.rpartition("/")[2] != _DESCRIPTIONS)
        elif place:
            places.append(place)
        else:
            outside.append(name)
    unusable_folders = {name: reason for name, reason in files.unusable.items()
                        if name.rpartition("/")[2].upper() in _PREFERRED}  # fmt: skip
    if not places:
        reasons = [f": its {escaped(name)} {reason}" for name, reason in unusable_folders.items()]
        raise InputError(f"{location} has no folder of a class that holds an image{(reasons or [f': {_REMEDY}'])[0]}")
    shared = _shared_folders([place.set_folders for place in places])
    sets: dict[str, list[LabelledFile]] = {}
    layouts: dict[str, tuple[str, str]] = {}
    for place in places:
        title = escaped("/".join(place.set_folders[shared:])) or escaped(path.stem if path.is_file() else path.name)
        if layouts.setdefault(title, place.layout) != place.layout:
            both = " and ".join("/".join(layout) for layout in (layouts[title], place.layout))
            raise InputError(f"{location}: the set {title} mixes two layouts, {both}: choose one of them")
        sets.setdefault(title, []).append(place)
    unusable = {name: reason for name, reason in files.unusable.items() if _place(location, name)}
    folders = places[0].set_folders[:shared]
    descriptions = _descriptions(location, files, folders, set(sets))
    return LabelledImages(
        location, {title: tuple(own) for title, own in sorted(sets.items())}, files.read, descriptions, unusable,
        unusable_folders, tuple(skipped), tuple(outside), shared,
    )  # fmt: skip


def _place(location: str, name: str) -> LabelledFile | None:
    """Return where a file lies, or None outside of class folders; separators may be backslashes, as of Windows."""
    for path in (name, name.replace("\\", "/")):
        parts = tuple(part for part in path.split("/") if part not in ("", "."))
        classes = [index for index, part in enumerate(parts[:-1]) if part.lower() in _FOLDERS]
        if len(classes) > 1:
            names = " and ".join(parts[index] for index in classes)
            raise InputError(f"{location}: {escaped(name)} lies in two class folders, {names}: rename one of them")
        if classes:
            layout, label = _FOLDERS[parts[classes[0]].lower()]
            return LabelledFile(name, label, layout, parts, classes[0])
    return None


def _shared_folders(paths: list[tuple[str, ...]]) -> int:
    """Return how many of the first folders all sets have in common, besides a folder that names a set."""
    most = min(map(len, paths)) - 1
    return max(0, min(most, len(list(takewhile(lambda level: len(set(level)) == 1, zip(*paths, strict=False))))))


def _descriptions(location: str, files: FileSet, folders: tuple[str, ...], sets: set[str]) -> dict[str, dict[str, str]]:
    """Return the rows of `sets.csv`, beside the sets or at the top, by the set that each names in its column `set`."""
    for name in ("/".join((*folders, _DESCRIPTIONS)), _DESCRIPTIONS):
        if name not in files.states:
            continue
        try:
            rows = list(csv.DictReader(io.StringIO(files.read(name).decode("utf-8-sig"))))
        except (UnicodeDecodeError, csv.Error) as error:
            raise InputError(f"{location}: {name} cannot be read ({error}): save it as CSV in UTF-8") from None
        if any("set" not in row for row in rows):
            raise InputError(f"{location}: {name} has no column set, which names the sets: add it, or remove the file")
        return {row.pop("set"): {key: value or "" for key, value in row.items() if key} for row in rows
                if row["set"] in sets}  # fmt: skip
    return {}
