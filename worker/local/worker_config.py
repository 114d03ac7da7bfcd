"""The settings of a worker that serves the local platform, as a file and a variable that names it."""

import json
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from worker.hashing.algorithms import ALGORITHMS
from worker.local.platform import LocalPlatform

_PREFIX = "HASH_WORKER_"


def worker_environment(
    platform: LocalPlatform, directory: Path, environment: Mapping[str, str]
) -> dict[str, str]:
    """Write the worker's settings into the folder and give the environment that makes a worker read them.

    Args:
        platform: The running platform.
        directory: Where the file goes; only its owner can read it, since it holds keys.
        environment: Taken over, less what is set there for another worker.
    """
    path = directory / "worker.toml"
    path.touch(mode=0o600)
    path.write_text(worker_toml(platform), encoding="utf-8")
    kept = {name: value for name, value in environment.items() if not name.upper().startswith(_PREFIX)}
    return kept | {f"{_PREFIX}CONFIG": str(path)}


def worker_toml(platform: LocalPlatform) -> str:
    """Give the settings as TOML. Every digest is stored: this platform takes any algorithm's name."""
    sections: dict[str, dict[str, str | list[str]]] = {
        "broker": {"url": platform.broker_url},
        "api": {"allowed_hosts": [urlsplit(platform.api_url).netloc]},
        "api.hash_names": {name: name for name in ALGORITHMS},
        f"storages.{platform.storage_id}": {
            "access_key": platform.s3_access_key,
            "secret_key": platform.s3_secret_key,
            "endpoint_url": platform.s3_endpoint,
            "bucket": platform.bucket,
            "addressing_style": "path",
        },
    }
    # For strings and lists of strings TOML and JSON are written alike.
    return "\n".join(
        f"[{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in section.items())
        for name, section in sections.items()
    )
