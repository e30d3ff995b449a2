"""The OpenAPI document, by Schemathesis: generated requests get responses that conform to it."""

import hypothesis
import numpy as np
import pytest
import schemathesis
from conftest import encoded
from hypothesis import strategies as st
from schemathesis.specs.openapi.checks import positive_data_acceptance

from lib.serving.app import create_app

APP = create_app()
IMAGE = encoded(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8))
schemathesis.openapi.format("binary", st.just(IMAGE) | st.binary())
schema = schemathesis.openapi.from_asgi("/openapi.json", APP)


@pytest.mark.slow
@schema.parametrize()
@hypothesis.settings(
    max_examples=40, derandomize=True, deadline=None, database=None, suppress_health_check=list(hypothesis.HealthCheck)
)
def test_responses_are_as_documented(case: schemathesis.Case) -> None:
    # No schema can say which bytes are an image: those that are none are rightly refused.
    case.call_and_validate(excluded_checks=[positive_data_acceptance])


def test_every_endpoint_is_documented() -> None:
    assert {operation.ok().path for operation in schema.get_all_operations()} == {
        "/predict/", "/predict/batch", "/health", "/metrics"
    }  # fmt: skip
