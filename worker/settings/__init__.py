"""The settings: `config/worker.toml`, overridden by `HASH_WORKER_…` variables, secrets from `*_FILE`.

They are read once, in bootstrap, never at import. Between levels of a variable's name stand two underscores:
`HASH_WORKER_HASHING__LANES=4`. A variable whose name ends in `_FILE` names a file that holds the value:
`HASH_WORKER_BROKER__PASSWORD_FILE=/run/secrets/broker_password`.
"""

import os
import tomllib
from collections.abc import Mapping, Sequence
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
_FILE_SUFFIX = "_FILE"


class SettingsError(Exception):
    """A setting is unknown or impossible; the text names each one and says what would be right.

    Args:
        text: The text.
        faults: What it tells, one by one, where these are several.
    """

    def __init__(self, text: str, faults: Sequence[str] = ()) -> None:
        super().__init__(text)
        self.faults = tuple(faults) or (text,)
        """What is wrong, one by one; the text has all of it."""


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
        """Take what `load` gives, and look nowhere else."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)


class _Variable(pydantic_settings.EnvSettingsSource):
    """One variable."""

    def __init__(self, name: str, value: str) -> None:
        self._variable = {name.lower(): value}
        super().__init__(Settings)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return self._variable


def load(**given: Any) -> Settings:
    """Read the settings.

    Args:
        given: Sections, as dictionaries of what the file has under their names; they win over all else.

    Returns:
        The settings: defaults, overridden by the file, overridden by variables.

    Raises:
        SettingsError: Settings are unknown or impossible, or named files can't be read.
    """
    faults: list[str] = []
    unusable = []
    values = _from_file(os.environ)
    for name, value in sorted(_variables(os.environ).items()):
        try:
            values = _merged(values, _from_variable(name, value))
        except SettingsError as error:
            faults += error.faults
            unusable.append(tuple(_setting(name).split("__")))
    try:
        settings = Settings(**_merged(values, given))
    except ValidationError as error:
        # What could not be read is missing, too, and told already.
        faults += [_told(one) for one in error.errors() if tuple(map(str, one["loc"])) not in unusable]
    if faults:
        raise SettingsError(f"Wrong settings: {'; '.join(faults)}.", faults)
    return settings


def _told(fault: ErrorDetails) -> str:
    return ": ".join([*filter(None, [".".join(map(str, fault["loc"]))]), _advice(fault)])


def _advice(fault: ErrorDetails) -> str:
    if fault["type"] == "extra_forbidden":
        return "there is no such setting"
    if fault["type"] == "too_short" and "min_length" in fault.get("ctx", {}):
        # Of a secret, too, whose value pydantic rightly does not know as text.
        return f"must have at least {fault['ctx']['min_length']} characters or items"
    return fault["msg"].removeprefix("Value error, ")


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one document over another, table by table."""
    both = dict(under)
    for name, value in over.items():
        below = both.get(name)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            both[name] = _merged(below, value)
        else:
            both[name] = value
    return both


def _from_file(environ: Mapping[str, str]) -> dict[str, Any]:
    """Read the file: the one that the variable names, else ours where it is there, else none."""
    named = environ.get(CONFIG_VARIABLE)
    path = Path(named) if named else CONFIG_FILE
    try:
        if path.is_file():
            return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"Wrong settings: {path} is not TOML: {error}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"Wrong settings: {path} can't be read: {_reason(error)}.") from None
    if named:
        raise SettingsError(f"{CONFIG_VARIABLE} names {named}, and there is no such file.")
    return {}


def _variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Find our variables; one that names a file wins over the one that holds the value itself."""
    ours = {name: value for name, value in environ.items() if name.upper().startswith(PREFIX)}
    in_files = {_without_suffix(name) for name in ours if _without_suffix(name) != name}
    return {
        name: value
        for name, value in ours.items()
        if name.upper() != CONFIG_VARIABLE and name not in in_files
    }


def _from_variable(name: str, value: str) -> dict[str, Any]:
    """Read one variable, and the file that it names, into a document with one value."""
    plain = _without_suffix(name)
    if _setting(name).split("__")[0] not in Settings.model_fields:
        raise SettingsError(f"{name}: there is no such setting")
    if plain != name:
        try:
            value = Path(value).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"{name}: the file {value} can't be read: {_reason(error)}") from None
    try:
        return _Variable(plain, value)()
    except pydantic_settings.SettingsError:
        raise SettingsError(f"a list or a table is written as JSON in {name}") from None


def _setting(name: str) -> str:
    """Give the setting that a variable is for, with two underscores between levels."""
    return _without_suffix(name).lower().removeprefix(PREFIX.lower())


def _without_suffix(name: str) -> str:
    return name[: -len(_FILE_SUFFIX)] if name.upper().endswith(_FILE_SUFFIX) else name


def _reason(error: OSError | UnicodeDecodeError) -> str:
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else "it is not UTF-8"
