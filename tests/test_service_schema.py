"""What the service's OpenAPI promises, asked by a machine: requests of its making get answers of the promised form."""

import hypothesis
import numpy as np
import schemathesis
from conftest import encoded
from hypothesis import strategies as st
from schemathesis.specs.openapi.checks import positive_data_acceptance

from lib.service import create_app

APP = create_app()
PICTURE = encoded(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8))
schemathesis.openapi.format("binary", st.just(PICTURE) | st.binary())
schema = schemathesis.openapi.from_asgi("/openapi.json", APP)


@schema.parametrize()
@hypothesis.settings(
    max_examples=40, derandomize=True, deadline=None, database=None, suppress_health_check=list(hypothesis.HealthCheck)
)
def test_answers_are_as_promised(case: schemathesis.Case) -> None:
    # No schema can say which bytes are a picture: those that are none are rightly refused.
    case.call_and_validate(excluded_checks=[positive_data_acceptance])


def test_every_address_is_asked() -> None:
    assert {operation.ok().path for operation in schema.get_all_operations()} == {
        "/predict/", "/predict/batch", "/health", "/metrics"
    }  # fmt: skip
