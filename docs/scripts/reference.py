"""Pages of the reference that are made from the code: parameters, HTTP, and the packages of lib."""

import ast
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # the lib of this checkout

from lib.core.parameters import CHOICES, LIMITS, load_profile

PACKAGES = sorted(path.parent.name for path in (ROOT / "lib").glob("*/__init__.py"))
PROFILES = ("sample", "cpu", "long", "gpu")
_PARAMETER = re.compile(r"^(?P<name>\w+) = (?P<default>.+?)  # type: (?P<type>\w+) ?(?P<help>.*)$", re.MULTILINE)
_SET_BY_PLOOMBER = ("upstream", "product", "lib_hash", "source_state")


def pages() -> dict[str, str]:
    """Return the Markdown of each page by its path in the site."""
    return {
        "reference/parameters.md": parameters(),
        "reference/http.md": http(),
        **{f"reference/api/{package}.md": api(package) for package in PACKAGES},
    }


def parameters() -> str:
    """Return a table of the parameters of each notebook, from its first code cell and the profiles."""
    profiles = {name: load_profile(name) for name in PROFILES}
    lines = [
        "# Parameters",
        "",
        "From the first code cell of each notebook, and from the profiles in `parameters/`. *Default* is the cell's",
        "value; profiles' values are shown where one differs. Values out of *range* are refused before any work.",
        "`upstream`, `product`, `lib_hash` and `source_state` are set by the pipeline. How to set the others:",
        "[Change parameters](../start/parameters.md).",
    ]
    for path in sorted((ROOT / "notebooks").glob("*.py")):
        cell = path.read_text(encoding="utf-8").partition('tags=["parameters"]')[2].partition("\n# %%")[0]
        columns = ("parameter", "type", "default", ", ".join(PROFILES), "range", "meaning")
        lines += ["", f"## {path.stem}", "", f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
        for match in _PARAMETER.finditer(cell):
            name = match["name"]
            if name in _SET_BY_PLOOMBER:
                continue
            default = ast.literal_eval(match["default"])
            values = [profiles[profile].get(name, default) for profile in PROFILES]
            shown = ", ".join(f"`{value}`" for value in values) if any(v != default for v in values) else ""
            text = match["help"] or "–"
            lines.append(
                f"| `{name}` | {match['type']} | `{match['default']}` | {shown} | {_range(name)} | {_cell(text)} |"
            )
    return "\n".join(lines) + "\n"


def _range(name: str) -> str:
    if name in CHOICES:
        return ", ".join(CHOICES[name])
    return " to ".join(f"{limit:,}" for limit in LIMITS[name]) if name in LIMITS else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def http() -> str:
    """Return the requests and the schemas of the service, from its OpenAPI document."""
    from lib.serving.app import create_app

    document = create_app().openapi()
    lines = [
        "# HTTP",
        "",
        f"{document['info']['description']} The service has this page, with forms to try it, at `/docs`; its OpenAPI",
        "document is at `/openapi.json`. How to run it: [Service](../guides/service.md).",
    ]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            lines += ["", f"## {method.upper()} {path}", "", operation["description"], ""]
            lines += _inputs(operation)
            lines += ["| status | meaning | body |", "|---|---|---|"]
            for status, response in operation["responses"].items():
                content = response.get("content", {})
                bodies = ", ".join(f"{_type(media['schema'])} ({kind})" for kind, media in content.items())
                meaning = "The response." if status == "200" else response["description"]
                lines.append(f"| {status} | {meaning} | {bodies} |")
    for name, schema in document["components"]["schemas"].items():
        lines += ["", f"## {name}", "", schema.get("description", ""), "", "| field | type |", "|---|---|"]
        lines += [f"| `{field}` | {_type(content)} |" for field, content in schema["properties"].items()]
    return "\n".join(lines) + "\n"


def _inputs(operation: dict[str, Any]) -> list[str]:
    rows = [
        f"| `{item['name']}` | {item['in']} | {_type(item['schema'])}, default {item['schema'].get('default')} | "
        f"{item['description']} |"
        for item in operation.get("parameters", ())
    ]
    for kind, media in operation.get("requestBody", {}).get("content", {}).items():
        fields = media["schema"]["properties"].items()
        rows += [f"| `{name}` | {kind} | {_type(content)} | required |" for name, content in fields]
    return ["| input | in | type | meaning |", "|---|---|---|---|", *rows, ""] if rows else []


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(_type(choice) for choice in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}"
    if isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_type(schema['additionalProperties'])}"
    return "file" if schema.get("format") == "binary" else str(schema.get("type", "any"))


def api(package: str) -> str:
    """Return the directives by which mkdocstrings writes the public names of a package."""
    modules = sorted(path.stem for path in (ROOT / "lib" / package).glob("*.py") if path.stem != "__init__")
    docstring = ast.get_docstring(ast.parse((ROOT / "lib" / package / "__init__.py").read_text(encoding="utf-8")))
    lines = [f"# lib.{package}", "", docstring or "", ""]
    return "\n".join(lines + [f"::: lib.{package}.{module}\n" for module in modules])
