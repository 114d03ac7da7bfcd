"""What can be set, section by section, with bounds and defaults."""

import re
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import quote, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    HttpUrl,
    SecretStr,
    field_validator,
    model_validator,
)

from worker.settings.addresses import bundle_fault, check_broker_options, is_broker_url, is_host

KiB = 1024
MiB = 1024 * KiB
GiB = 1024 * MiB

# As botocore takes it: one label of a host's name.
_REGION = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")


def _check_line(secret: SecretStr) -> SecretStr:
    # Programs that read the same file take its first line.
    if re.search(r"[\r\n]", secret.get_secret_value()):
        raise ValueError("must be one line; take the others out of its file")
    return secret


_Secret = Annotated[SecretStr, AfterValidator(_check_line)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BrokerSettings(_Section):
    """Where the queue is; `address` is what to connect to."""

    url: SecretStr = Field(
        default=SecretStr("redis://127.0.0.1:6379/0"),
        description="Valkey or Redis: redis://host:port/0, perhaps with user:password@; rediss:// for TLS.",
    )
    password: _Secret | None = Field(
        default=None, min_length=1, description="Its password as it is, if it does not stand in the URL."
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
        if not is_broker_url(url.get_secret_value()):
            raise ValueError(
                "must be redis://:password@host:port/0, or rediss:// for TLS; "
                "percent-encode all but letters and digits of the password: / is %2F, # is %23"
            )
        check_broker_options(url.get_secret_value())
        return url

    @model_validator(mode="after")
    def _check_password(self) -> Self:
        if self.password is not None and urlsplit(self.url.get_secret_value()).password:
            raise ValueError("the password stands in url and in password; leave one out")
        return self

    @property
    def address(self) -> str:
        """Give the URL with the password in it: a secret."""
        url = self.url.get_secret_value()
        if self.password is None:
            return url
        parts = urlsplit(url)
        place = parts.netloc.rpartition("@")[2]
        password = quote(self.password.get_secret_value(), safe="")
        return parts._replace(netloc=f"{parts.username or ''}:{password}@{place}").geturl()


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
        description="Algorithm -> the platform's name; without one, or with an empty one, the digest is a "
        "message only. An added algorithm has its own name unless another stands here.",
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

    @field_validator("allowed_hosts")
    @classmethod
    def _check_hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        # One that is anything else would be met by no payload, and nobody be told.
        for host in hosts:
            if not is_host(host):
                raise ValueError(
                    f'each must be like "go.example.org" or "go.example.org:8443", and "{host}" is not'
                )
        return hosts


class StorageSettings(_Section):
    """Access to one of the platform's storages; its S3 keys are never in a payload."""

    access_key: str = Field(min_length=1, description="S3 access key id.")
    secret_key: _Secret = Field(min_length=1, description="S3 secret key.")
    session_token: _Secret | None = Field(default=None, description="For temporary credentials.")
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

    @field_validator("verify_tls")
    @classmethod
    def _check_bundle(cls, verify_tls: bool | Path) -> bool | Path:  # noqa: FBT001 - the setting's own type
        if isinstance(verify_tls, Path) and (fault := bundle_fault(verify_tls)):
            raise ValueError(f"must be true, false or a bundle of CA certificates, and {fault}")
        return verify_tls


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
    batches_at_once: Annotated[int, Field(ge=0, le=1000)] = Field(
        default=0,
        description="Of these so many at most are batches of large jobs; 0 leaves one place to small jobs.",
    )
    files_at_once: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=16, description="Files of one task under way at once, count."
    )
    batch_files: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=1000, description="Files of one batch at most, count; a job of no more is not spread."
    )
    batch_bytes: Annotated[int, Field(ge=1)] = Field(
        default=GiB, description="Bytes of one batch at most, or one file; a job of no more is not spread."
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
    offline_is_error: bool = Field(
        default=False, description="A job with an off-line file is FAILED; else it is told and counted."
    )

    @model_validator(mode="after")
    def _check_places(self) -> Self:
        if self.batches_at_once > self.jobs_at_once:
            raise ValueError(f"batches_at_once must not be more than jobs_at_once, {self.jobs_at_once}")
        return self

    @property
    def places_for_batches(self) -> int:
        """Give `batches_at_once` in figures: where it is 0, one less than there are places, at least one."""
        return self.batches_at_once or max(1, self.jobs_at_once - 1)


class LimitSettings(_Section):
    """How many tasks may run at once in all workers together, so that no job drowns a platform."""

    container_batches: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=64, description="Batches of one container, and so of one job; small jobs do not count."
    )
    platform_tasks: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=256, description="Tasks that speak with one platform, count."
    )


class GatewaySettings(_Section):
    """Where triggers hand in payloads over HTTP, and who may."""

    host: str = Field(default="127.0.0.1", min_length=1, description="Address to listen at.")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(default=8080, description="0: any that is free.")
    token: _Secret | None = Field(
        default=None,
        min_length=16,
        description="What callers send as `Authorization: Bearer`; only on loopback it may be missing.",
    )


class HealthSettings(_Section):
    """Where a worker tells whether it is well, and gives Prometheus its metrics."""

    host: str = Field(default="127.0.0.1", min_length=1, description="Address to listen at.")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(
        default=0, description="0: nowhere; two workers on one machine need two."
    )


class FlowerSettings(_Section):
    """Where Flower is, and who may look."""

    host: str = Field(default="127.0.0.1", min_length=1, description="Address to listen at.")
    port: Annotated[int, Field(ge=1, le=65535)] = Field(default=5555)
    user: str = Field(default="operator", min_length=1, pattern="^[^:]+$")
    password: _Secret | None = Field(
        default=None, min_length=8, description="Flower does not start without one."
    )
    database: Path | None = Field(
        default=None, description="A file that keeps what Flower has seen; without one it forgets."
    )


class LogSettings(_Section):
    """What is logged, and how it looks."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    format: Literal["auto", "console", "json"] = Field(
        default="auto", description="auto: coloured on a terminal, JSON elsewhere."
    )
