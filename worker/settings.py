"""The settings: `config/worker.toml`, overridden by `HASH_WORKER_…` variables, secrets from `*_FILE`.

They are read once, in bootstrap, never at import. Between levels of a variable's name stand two underscores:
`HASH_WORKER_HASHING__LANES=4`. A variable whose name ends in `_FILE` names a file that holds the value:
`HASH_WORKER_BROKER__URL_FILE=/run/secrets/broker_url`.
"""

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

import pydantic_settings
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    HttpUrl,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

PREFIX = "HASH_WORKER_"
CONFIG_VARIABLE = f"{PREFIX}CONFIG"
CONFIG_FILE = Path("config/worker.toml")
ANY_STORAGE = "default"

KiB = 1024
MiB = 1024 * KiB
GiB = 1024 * MiB

# Valkey's databases have numbers. Of options kombu and redis-py share those of TLS; an "@" there shows that
# a password was cut.
_BROKER_PATH_AND_QUERY = re.compile(r"(/[0-9]*)?(\?(&?ssl_[a-z_]+=[^@&#]*)+)?")
# As botocore takes it: one label of a host's name.
_REGION = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")


class SettingsError(Exception):
    """A setting is unknown or impossible; the text names each one and says what would be right."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BrokerSettings(_Section):
    """Where the queue is."""

    url: SecretStr = Field(
        default=SecretStr("redis://127.0.0.1:6379/0"),
        description="Valkey or Redis with its password: redis://:password@host:port/0; rediss:// for TLS.",
    )
    visibility_timeout_seconds: Annotated[float, Field(ge=2, le=86400)] = Field(
        default=120.0, description="A message that nobody works on is delivered again after so long."
    )
    sweep_seconds: Annotated[float, Field(ge=0.1, le=600)] = Field(
        default=10.0, description="How often each worker looks for such messages, and for undelivered ends."
    )

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: SecretStr) -> SecretStr:
        # Celery would quote parts of the password when it finds out.
        if not _is_broker_url(url.get_secret_value()):
            raise ValueError(
                "must be redis://:password@host:port/0, or rediss:// for TLS; "
                "percent-encode all but letters and digits of the password: / is %2F, # is %23"
            )
        return url


class ApiSettings(_Section):
    """The platform's jobs API, and what this platform calls things."""

    allowed_hosts: tuple[str, ...] = Field(
        default=(),
        description="host or host:port of each platform that is served; a key is sent nowhere else.",
    )
    routes: dict[str, str] = Field(
        default={}, description="Route templates by name, where the platform's differ from ours."
    )
    message_types: dict[str, str] = Field(
        default={"INFO": "INFO"},
        description="Level -> the platform's message type; another level is sent as INFO, its name first.",
    )
    hash_names: dict[str, str] = Field(
        default={"md5": "md5", "sha1": "sha1", "sha256": "sha256"},
        description="Algorithm -> the platform's name; the digest of another one is a message only.",
    )
    connections: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=32, description="Connections to all platforms together, count."
    )
    attempts: Annotated[int, Field(ge=1, le=100)] = Field(
        default=8, description="Times a request is tried before it counts as failed."
    )
    timeout_seconds: Annotated[float, Field(gt=0, le=600)] = Field(
        default=30.0, description="Longest time for one request; the platform itself ends one after 600 s."
    )


class StorageSettings(_Section):
    """Access to one of the platform's storages; its S3 keys are never in a payload."""

    access_key: str = Field(min_length=1, description="S3 access key id.")
    secret_key: SecretStr = Field(min_length=1, description="S3 secret key.")
    session_token: SecretStr | None = Field(default=None, description="For temporary credentials.")
    endpoint_url: HttpUrl | None = Field(
        default=None,
        description="S3 endpoint; where it is missing, AWS. The platform's record can't change it.",
    )
    region: str | None = Field(default=None, description="Where it is missing, the platform's record says.")
    bucket: str | None = Field(
        default=None, description="A bucket that `hash-worker check` may try these credentials on."
    )
    addressing_style: Literal["auto", "path", "virtual"] = Field(
        default="auto", description="Bucket in the path or in the host's name."
    )
    verify_tls: bool | Path = Field(default=True, description="false, or a bundle of CA certificates.")

    @field_validator("region")
    @classmethod
    def _check_region(cls, region: str | None) -> str | None:
        if region is not None and not _REGION.fullmatch(region):
            raise ValueError("must be letters, digits and hyphens, like eu-west-1")
        return region


class HashingSettings(_Section):
    """Lanes and slots. Memory for slots is `slots` x `slot_bytes`, whatever the size of an object."""

    lanes: Annotated[int, Field(ge=0, le=256)] = Field(
        default=0, description="Hashing processes, count; 0 means one per core."
    )
    slots: Annotated[int, Field(ge=2, le=4096)] = Field(default=24, description="Slots, count.")
    slot_bytes: Annotated[int, Field(ge=64 * KiB, le=GiB)] = Field(
        default=4 * MiB, description="Size of a slot, and so of a range, in bytes."
    )
    algorithms: tuple[str, ...] = Field(
        default=("md5", "sha1", "sha256", "blake3"),
        min_length=1,
        description="Algorithms of a job whose payload names none.",
    )


class ReadingSettings(_Section):
    """How objects are read from S3."""

    ranges_in_flight: Annotated[int, Field(ge=1, le=256)] = Field(
        default=4, description="Ranges of one object asked for ahead of the hashers, count."
    )
    attempts: Annotated[int, Field(ge=1, le=100)] = Field(
        default=8, description="Times a range is asked for before its file counts as unreadable."
    )
    connect_timeout_seconds: Annotated[float, Field(gt=0, le=600)] = Field(default=5.0)
    stall_timeout_seconds: Annotated[float, Field(gt=0, le=3600)] = Field(
        default=30.0, description="A range is asked for again when it falls below the floor for this long."
    )
    floor_bytes_per_second: Annotated[int, Field(ge=1)] = Field(
        default=64 * KiB, description="The slowest rate that is waited for, in bytes per second."
    )


class WorkerSettings(_Section):
    """How much one worker does at once."""

    jobs_at_once: Annotated[int, Field(ge=1, le=1000)] = Field(default=4, description="Tasks, count.")
    files_at_once: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=16, description="Files of one job under way at once, count."
    )
    lease_seconds: Annotated[float, Field(ge=1, le=3600)] = Field(
        default=60.0, description="A job whose worker is silent for so long may be taken over by another."
    )
    pause_seconds: Annotated[float, Field(gt=0, le=3600)] = Field(
        default=15.0,
        description="A job that can't be run now, its platform being away, comes again after it.",
    )
    grace_seconds: Annotated[float, Field(ge=0, le=3600)] = Field(
        default=10.0, description="Time that running jobs have to end after SIGTERM; then they go back."
    )
    attempts: Annotated[int, Field(ge=1, le=100)] = Field(
        default=5, description="Workers that may die over a job, without a file done, before it is FAILED."
    )
    offline_storage_class_ids: tuple[str, ...] = Field(
        default=(),
        description="The platform's ids of its off-line storage classes; such files are not read.",
    )


class LogSettings(_Section):
    """What is logged, and how it looks."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    format: Literal["auto", "console", "json"] = Field(
        default="auto", description="auto: coloured on a terminal, JSON elsewhere."
    )


class Settings(BaseSettings):
    """Everything that can be set. `load()` reads it."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True, hide_input_in_errors=True
    )

    broker: BrokerSettings = BrokerSettings()
    api: ApiSettings = ApiSettings()
    storages: dict[str, StorageSettings] = Field(
        default={},
        description="By the platform's storage id in lower case; `default` stands for every other id.",
    )
    hashing: HashingSettings = HashingSettings()
    reading: ReadingSettings = ReadingSettings()
    worker: WorkerSettings = WorkerSettings()
    log: LogSettings = LogSettings()

    @field_validator("storages", mode="before")
    @classmethod
    def _check_storage_ids(cls, storages: Any) -> Any:
        # Names of variables have no case, so a table in the file and its variables meet in lower case.
        for storage_id in storages if isinstance(storages, dict) else ():
            if storage_id != storage_id.lower():
                raise ValueError(f"write {storage_id} in lower case; the case of an id does not count")
        return storages

    @model_validator(mode="after")
    def _check_times(self) -> Self:
        timeout_seconds = self.broker.visibility_timeout_seconds
        for name in ("lease_seconds", "pause_seconds"):
            # A message that waits for longer comes twice, and again twice; see docs/reliability.md.
            if getattr(self.worker, name) >= timeout_seconds:
                raise ValueError(
                    f"worker.{name} must be less than broker.visibility_timeout_seconds, {timeout_seconds:g}"
                )
        return self

    def storage(self, storage_id: str) -> StorageSettings | None:
        """Give the access for one of the platform's storages, or None where the settings have none for it.

        The case of the id does not count.
        """
        return self.storages.get(storage_id.lower()) or self.storages.get(ANY_STORAGE)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let variables override the file; there are no other sources."""
        del env_settings, dotenv_settings, file_secret_settings
        toml = pydantic_settings.TomlConfigSettingsSource(settings_cls, _config_file(os.environ))
        return init_settings, _Environment(settings_cls, _variables(os.environ)), toml


class _Environment(pydantic_settings.EnvSettingsSource):
    """Variables, as `_variables` gives them."""

    def __init__(self, settings_cls: type[BaseSettings], variables: Mapping[str, str]) -> None:
        self._variables = variables
        super().__init__(settings_cls)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return {name.lower(): value for name, value in self._variables.items()}


def load() -> Settings:
    """Read the settings.

    Returns:
        The settings: defaults, overridden by the file, overridden by variables.

    Raises:
        SettingsError: A setting is unknown or impossible, or a named file can't be read.
    """
    try:
        return Settings()
    except ValidationError as error:
        faults = "; ".join(
            ": ".join(
                [*filter(None, [".".join(map(str, fault["loc"]))]), _advice(fault["type"], fault["msg"])]
            )
            for fault in error.errors()
        )
        raise SettingsError(f"Wrong settings: {faults}.") from None
    except pydantic_settings.SettingsError:
        named = ", ".join(_not_json(_variables(os.environ)))
        raise SettingsError(f"Wrong settings: a list or a table is written as JSON in {named}.") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"Wrong settings: {_config_file(os.environ)} is not TOML: {error}.") from None
    except (OSError, UnicodeDecodeError) as error:
        named = os.environ.get(CONFIG_VARIABLE) or str(CONFIG_FILE)
        raise SettingsError(f"Wrong settings: {named} can't be read: {_reason(error)}.") from None


def _advice(kind: str, text: str) -> str:
    return "there is no such setting" if kind == "extra_forbidden" else text.removeprefix("Value error, ")


def _not_json(variables: Mapping[str, str]) -> Iterator[str]:
    """Name the variables that have to be a list or a table, and can't be."""
    for name, value in variables.items():
        try:
            _Environment(Settings, {name: value})()
        except pydantic_settings.SettingsError:
            yield name


def _is_broker_url(url: str) -> bool:
    """Tell whether Celery and the client of `check` would both read the address as it is meant.

    A "/", "#" or "?" in a password ends the host early (RFC 3986, section 3.2): what follows shows it.
    """
    try:
        parts = urlsplit(url)
        has_place = parts.hostname is not None and parts.port != 0
    except ValueError:
        return False
    rest = url.partition("://")[2].removeprefix(parts.netloc)
    return (
        has_place
        and url.startswith(("redis://", "rediss://"))
        and _BROKER_PATH_AND_QUERY.fullmatch(rest) is not None
    )


def _config_file(environ: Mapping[str, str]) -> Path | None:
    """Choose the file: the one that the variable names, else ours where it is there, else none."""
    if named := environ.get(CONFIG_VARIABLE):
        if not Path(named).is_file():
            raise SettingsError(f"{CONFIG_VARIABLE} names {named}, and there is no such file.")
        return Path(named)
    return CONFIG_FILE if CONFIG_FILE.is_file() else None


def _variables(environ: Mapping[str, str]) -> dict[str, str]:
    variables: dict[str, str] = {}
    for name, value in environ.items():
        if not name.upper().startswith(PREFIX) or name.upper() == CONFIG_VARIABLE:
            continue
        section = name.upper().removeprefix(PREFIX).split("__")[0].lower()
        if section not in Settings.model_fields:
            raise SettingsError(f"{name}: there is no such setting.")
        if name.upper().endswith("_FILE"):
            variables[name[: -len("_FILE")]] = _secret(name, Path(value))
        else:
            variables.setdefault(name, value)
    return variables


def _secret(name: str, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{name}: the file {path} can't be read: {_reason(error)}.") from None


def _reason(error: OSError | UnicodeDecodeError) -> str:
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else "it is not UTF-8"
