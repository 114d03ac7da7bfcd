"""The settings: `config/worker.toml`, overridden by `HASH_WORKER_…` variables, secrets from `*_FILE`.

They are read once, in bootstrap, never at import. Between levels of a variable's name stand two underscores:
`HASH_WORKER_HASHING__LANES=4`. A variable whose name ends in `_FILE` names a file that holds the value:
`HASH_WORKER_BROKER__PASSWORD_FILE=/run/secrets/broker_password`.
"""

import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import pydantic_settings
from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from worker.settings.sections import (
    ApiSettings,
    BrokerSettings,
    FlowerSettings,
    GatewaySettings,
    HashingSettings,
    HealthSettings,
    LimitSettings,
    LogSettings,
    ReadingSettings,
    StorageSettings,
    WorkerSettings,
)

__all__ = [
    "ANY_STORAGE",
    "CONFIG_VARIABLE",
    "ApiSettings",
    "BrokerSettings",
    "GatewaySettings",
    "HashingSettings",
    "HealthSettings",
    "LimitSettings",
    "ReadingSettings",
    "Settings",
    "SettingsError",
    "StorageSettings",
    "WorkerSettings",
    "load",
]

PREFIX = "HASH_WORKER_"
CONFIG_VARIABLE = f"{PREFIX}CONFIG"
CONFIG_FILE = Path("config/worker.toml")
ANY_STORAGE = "default"


class SettingsError(Exception):
    """A setting is unknown or impossible; the text names each one and says what would be right."""


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
    limits: LimitSettings = LimitSettings()
    gateway: GatewaySettings = GatewaySettings()
    health: HealthSettings = HealthSettings()
    flower: FlowerSettings = FlowerSettings()
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


def load(**given: Any) -> Settings:
    """Read the settings.

    Args:
        given: Sections, as dictionaries of what the file has under their names; they win over all else.

    Returns:
        The settings: defaults, overridden by the file, overridden by variables.

    Raises:
        SettingsError: A setting is unknown or impossible, or a named file can't be read.
    """
    try:
        return Settings(**given)
    except ValidationError as error:
        faults = "; ".join(
            ": ".join([*filter(None, [".".join(map(str, fault["loc"]))]), _advice(fault)])
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


def _advice(fault: ErrorDetails) -> str:
    if fault["type"] == "extra_forbidden":
        return "there is no such setting"
    if fault["type"] == "too_short" and "min_length" in fault.get("ctx", {}):
        # Of a secret, too, whose value pydantic rightly does not know as text.
        return f"must have at least {fault['ctx']['min_length']} characters or items"
    return fault["msg"].removeprefix("Value error, ")


def _not_json(variables: Mapping[str, str]) -> Iterator[str]:
    """Name the variables that have to be a list or a table, and can't be."""
    for name, value in variables.items():
        try:
            _Environment(Settings, {name: value})()
        except pydantic_settings.SettingsError:
            yield name


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
