"""What the service's OpenAPI document says of requests and responses."""

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Query

from lib.inference.occlusion import Explanation
from lib.inference.predictor import Prediction

FIELD = "data"
FILE = {"type": "string", "format": "binary"}
FILES = {"type": "array", "items": FILE, "minItems": 1}


@dataclass(frozen=True)
class Answer(Prediction):
    """Hold the prediction of one image, a warning where it is unreliable, and its explanation, if asked for."""

    warning: str | None
    explanation: Explanation | None = None


@dataclass(frozen=True)
class Refusal:
    """Hold the reason why one image of a batch has no prediction."""

    error: str


@dataclass(frozen=True)
class Detail:
    """Hold the reason, one sentence, why a request is refused."""

    detail: str


Unsure = Annotated[bool, Query(description="Predict UNSURE where the error could exceed the target risk.")]
Explain = Annotated[bool, Query(description="Add `explanation`, which takes a hundred times the computation.")]


def form(content: dict[str, Any]) -> dict[str, Any]:
    """Describe a form that the endpoint reads itself, whose field `data` is as `content` says."""
    schema = {"type": "object", "required": [FIELD], "properties": {FIELD: content}}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


ERRORS: dict[int | str, dict[str, Any]] = {
    code: {"model": Detail, "description": description}
    for code, description in (
        (400, "The image cannot be classified."), (408, "The body came too slowly."), (413, "The body is too large."),
        (422, "The form or the query is wrong."), (503, "Too much to do: try again after Retry-After."),
    )
}  # fmt: skip
