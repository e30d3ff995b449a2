"""What the service's OpenAPI says of its questions and answers."""

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Query

from lib.forms import FIELD
from lib.model import Verdict
from lib.occlusion import Explanation


@dataclass(frozen=True)
class Answer(Verdict):
    """Say what a picture is, whether the network knows its kind, and, if asked for, where it looked."""

    warning: str | None
    explanation: Explanation | None = None


@dataclass(frozen=True)
class Refusal:
    """Say why there is no verdict."""

    error: str


@dataclass(frozen=True)
class Detail:
    """Say in a sentence why a request has no answer."""

    detail: str


Unsure = Annotated[bool, Query(description="Answer UNSURE where the error could exceed the stated one.")]
Explain = Annotated[bool, Query(description="Add `explanation`, which takes a hundred times the work.")]
FILE = {"type": "string", "format": "binary"}


def form(content: dict[str, Any]) -> dict[str, Any]:
    """Describe a form that `files_of` reads, which FastAPI cannot know."""
    schema = {"type": "object", "required": [FIELD], "properties": {FIELD: content}}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


ERRORS: dict[int | str, dict[str, Any]] = {
    code: {"model": Detail, "description": description}
    for code, description in (
        (400, "The picture cannot be judged."), (408, "The body came too slowly."), (413, "The body is too large."),
        (422, "The form or the query is wrong."), (503, "Too much to do: try again after Retry-After."),
    )
}  # fmt: skip
