"""The service, through its HTTP interface."""

from importlib.metadata import version

from fastapi.testclient import TestClient

from lib.service import app


def test_health_names_the_running_version():
    reply = TestClient(app).get("/health")
    assert reply.status_code == 200
    assert reply.json() == {"status": "ok", "version": version("cifake-lab")}
