"""Answer over HTTP."""

from importlib.metadata import version

from fastapi import FastAPI

app = FastAPI(title="CIFAKE Lab", version=version("cifake-lab"))


@app.get("/health")
def health() -> dict[str, str]:
    """Report that the service is up, and the project version that it runs."""
    return {"status": "ok", "version": app.version}
