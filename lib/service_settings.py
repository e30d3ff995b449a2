"""What the service may be told, by environment variables or a file, checked before it starts."""

import os
from pathlib import Path
from typing import Any

import yaml
from pydantic import ByteSize, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from lib.errors import InputError
from lib.files import project_path
from lib.model import released

PREFIX = "CIFAKE_"
FILE = f"{PREFIX}SETTINGS"  # names a YAML file with the same settings in small letters; the environment wins


class ServiceSettings(BaseSettings):
    """Hold the service's settings. Each can be given as CIFAKE_ and its name in capitals."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    model: Path = Field(default_factory=released, description="an ONNX file, its JSON file beside it")
    processes: int = Field(0, ge=0, le=256, description="processes that decode and judge (0: a core each, but one)")
    threads: int = Field(1, ge=1, le=256, description="threads of ONNX Runtime in each process")
    batch: int = Field(16, ge=1, le=1024, description="pictures judged at a time, at most")
    queue: int = Field(1024, ge=1, le=1_000_000, description="pictures that may wait")
    large: int = Field(64, ge=1, le=1_000_000, description="large pictures that may wait to be decoded")
    explanations: int = Field(16, ge=1, le=10_000, description="explanations that may wait")
    files: int = Field(64, ge=1, le=1000, description="files in one request to /predict/batch")
    max_body: ByteSize = Field(ByteSize(20 * 2**20), ge=1, description="bytes of a request's body")
    memory: ByteSize = Field(ByteSize(256 * 2**20), ge=1, description="bytes of all bodies at one time")
    body_seconds: float = Field(30, gt=0, le=3600, description="time in which a body has to come")
    drift_window: int = Field(100, ge=10, le=10_000, description="pictures that the drift test looks at, the last ones")
    drift_seconds: float = Field(10, gt=0, le=86_400, description="time between two drift tests")

    @field_validator("model")
    @classmethod
    def _from_root(cls, path: Path) -> Path:
        return project_path(path)

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource, **_: Any,
    ) -> tuple[PydanticBaseSettingsSource, ...]:  # fmt: skip
        return env_settings, init_settings


def read_settings() -> ServiceSettings:
    """Return the settings of the environment, and for what it leaves open those of the file that CIFAKE_SETTINGS names.

    Raises InputError for a value that makes no sense, an unknown name in the file, or a file that cannot be read.
    """
    file = os.environ.get(FILE)
    try:
        return ServiceSettings(**(_content(Path(file)) if file else {}))
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        if first["type"] == "extra_forbidden":
            raise InputError(f"{file}: {name!r} is no setting: choose among {_names()}") from None
        said = first["msg"][0].lower() + first["msg"][1:]
        raise InputError(f"{PREFIX}{name.upper()} is {first['input']!r}: {said}") from None


def _content(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise InputError(f"{FILE}: {path} cannot be read ({error.strerror}): check the path") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise InputError(f"{FILE}: {path} is no YAML: write one `name: value` a line") from None
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise InputError(f"{FILE}: {path} holds no settings: write one `name: value` a line")
    return content


def _names() -> str:
    return ", ".join(ServiceSettings.model_fields)
