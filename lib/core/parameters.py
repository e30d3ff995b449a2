"""Validate the parameters of a notebook before it does any work."""

import ast
import difflib
import re
from collections.abc import Iterable
from typing import Any

from lib.core.errors import InputError
from lib.core.files import ROOT

_TYPES: dict[str, type | tuple[type, ...]] = {
    "bool": bool, "int": int, "float": (int, float), "str": str, "list": list, "dict": dict,
}  # fmt: skip
_DECLARATION = re.compile(r"^(?P<name>\w+) = .+?  # type: (?P<type>\w+)\b")
_INJECTED = "# Parameters"  # the first line of the cell that papermill and Ploomber insert


def declared(notebook: str) -> dict[str, str]:
    """Return the parameters of a notebook (by name, such as "02_train"), each with the name of its type."""
    text = (ROOT / "notebooks" / f"{notebook}.py").read_text(encoding="utf-8")
    cell = re.split(r"^# %%", text.partition('tags=["parameters"]')[2], maxsplit=1, flags=re.M)[0]
    matches = (_DECLARATION.match(line) for line in cell.splitlines())
    return {match["name"]: match["type"] for match in matches if match}


def validate_parameters(notebook: str, namespace: dict[str, Any]) -> None:
    """Raise InputError for a parameter that the notebook does not have, or for one of the wrong type.

    `namespace` is the notebook's `globals()`. papermill only warns about an unknown name, and parses `-p x true` and
    YAML's `1e-3` as text: unchecked, both would give a result that nobody asked for.
    """
    parameters = declared(notebook)
    for name in _injected_names(namespace):
        if name not in parameters:
            raise InputError(f"{notebook} has no parameter {name!r}: {did_you_mean(name, parameters)}")
    for name, type_name in parameters.items():
        value = namespace[name]
        if not fits(value, type_name):
            raise InputError(
                f"{notebook}: parameter {name!r} must be of type {type_name}, not {type(value).__name__} "
                f"({value!r}){type_hint(type_name, value)}"
            )


def fits(value: Any, type_name: str) -> bool:
    """Return whether `value` is valid for a parameter of the declared type."""
    # bool is a subclass of int in Python, but True is no valid number for a user.
    return isinstance(value, _TYPES[type_name]) and (type_name == "bool" or not isinstance(value, bool))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a hint for a misspelt name: the closest known name, or all of them where none is close."""
    matches = difflib.get_close_matches(name, list(known), 1)
    return f"did you mean {matches[0]!r}?" if matches else f"it may be {', '.join(known)}"


def type_hint(type_name: str, value: Any) -> str:
    """Return a hint on how to write a value that YAML or papermill parsed as text, or an empty string."""
    if not isinstance(value, str):
        return ""
    return {"bool": ": write True or False", "float": ": write it as 0.001 or 1.0e-3"}.get(type_name, "")


def _injected_names(namespace: dict[str, Any]) -> list[str]:
    names = []
    for cell in namespace.get("In", []):
        if cell.startswith(_INJECTED):
            for node in ast.parse(cell).body:
                if isinstance(node, ast.Assign):
                    names += [target.id for target in node.targets if isinstance(target, ast.Name)]
    return names
