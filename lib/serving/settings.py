"""The service's settings, from environment variables and a YAML file, validated before the service starts."""

import os
import re
from pathlib import Path
from typing import Annotated, Any

import joblib
import yaml
from pydantic import AfterValidator, BeforeValidator, ByteSize, Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)

from lib.core.errors import InputError
from lib.core.files import project_path
from lib.core.parameters import did_you_mean
from lib.inference.predictor import default_model_path

PREFIX = "CIFAKE_"
FILE = f"{PREFIX}SETTINGS"  # names a YAML file with the same settings in small letters; the environment wins
# The file of settings, the tests' archive, and what Kubernetes sets for a service called "cifake".
_OTHERS = re.compile(f"{FILE}|{PREFIX}(ARCHIVE|PORT|PORT_.+|SERVICE_.+)")

_ProjectPath = Annotated[Path, AfterValidator(project_path)]


def _spare_cores() -> int:
    return max(1, joblib.cpu_count() - 1)  # HTTP keeps one busy


def _origins(given: object) -> object:
    """Return the origins of a text, with commas or spaces between them."""
    origins = given.lower().replace(",", " ").split() if isinstance(given, str) else given
    for origin in origins if isinstance(origins, list) else ():
        if not re.fullmatch(r"\*|https?://[^/\s]+", str(origin)):
            raise ValueError(f"{origin} is no origin: write https://example.org, or * for all")
    return origins


class Settings(BaseSettings):
    """Hold the service's settings. Each can be given as CIFAKE_ and its name in capitals."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    model: _ProjectPath = Field(default_factory=default_model_path, description="an ONNX file, its JSON file beside it")
    workers: int = Field(default_factory=_spare_cores, ge=1, le=256, description="threads that run the network")
    threads: int = Field(1, ge=1, le=256, description="threads of ONNX Runtime in each pass of the network")
    nice: int = Field(10, ge=0, le=19, description="by which threads that decode or explain yield (Linux)")
    max_batch_size: int = Field(24, ge=1, le=1024, description="images in a pass of the network")
    max_queue_size: int = Field(1024, ge=1, le=1_000_000, description="images that may wait")
    max_decode_queue: int = Field(64, ge=1, le=1_000_000, description="large images that may wait to be decoded")
    max_explain_queue: int = Field(16, ge=1, le=10_000, description="explanations that may wait")
    max_files: int = Field(64, ge=1, le=1000, description="files in one request to /predict/batch")
    max_body: ByteSize = Field(ByteSize(20 * 2**20), ge=1, description="bytes of a request's body")
    max_body_memory: ByteSize = Field(ByteSize(256 * 2**20), validate_default=True, description="bytes of all bodies")
    body_timeout: float = Field(30, gt=0, le=3600, description="seconds in which a body has to arrive")
    cors_origins: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_origins)] = Field(
        (), description="origins of other pages that may read responses, or *"
    )
    drift_window: int = Field(100, ge=10, le=10_000, description="images of the drift test, the last ones")
    drift_interval: float = Field(10, gt=0, le=86_400, description="seconds between two drift tests")

    @field_validator("max_body_memory")
    @classmethod
    def _one_body_fits(cls, memory: int, info: ValidationInfo) -> int:
        if memory < info.data.get("max_body", 0):
            raise ValueError(f"it should be at least {PREFIX}MAX_BODY, {info.data['max_body']}")
        return memory

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource, **_: Any,
    ) -> tuple[PydanticBaseSettingsSource, ...]:  # fmt: skip
        return init_settings, env_settings, YamlConfigSettingsSource(settings_cls, os.environ.get(FILE))


def read_settings() -> Settings:
    """Return the settings of the environment and, where it has none, of the YAML file that CIFAKE_SETTINGS names.

    Raises InputError for a value out of range, an unknown name, or a file that cannot be read.
    """
    known = Settings.model_fields
    for name in map(str.upper, os.environ):
        if name.startswith(PREFIX) and not _OTHERS.fullmatch(name) and name.removeprefix(PREFIX).lower() not in known:
            raise InputError(f"{name} is no setting: {did_you_mean(name, [PREFIX + it.upper() for it in known])}")
    file = os.environ.get(FILE)
    try:
        if file:
            Path(file).open().close()  # pydantic-settings ignores a file that is missing
        return Settings()
    except OSError as error:
        raise InputError(f"{FILE}: {file} cannot be read ({error.strerror}): check the path") from None
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        if first["type"] == "extra_forbidden":
            raise InputError(f"{file}: {name!r} is no setting: {did_you_mean(name, known)}") from None
        message = first["msg"].removeprefix("Value error, ")
        raise InputError(f"{PREFIX}{name.upper()} is {first['input']!r}: {message[0].lower()}{message[1:]}") from None
    except (yaml.YAMLError, AttributeError, TypeError, ValueError):  # all but the first for what is no mapping of names
        raise InputError(f"{FILE}: {file} holds no settings: write one `name: value` a line") from None
