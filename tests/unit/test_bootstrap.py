"""Bootstrap: what is refused before anything is opened, and where a storage's files are looked for."""

from pathlib import Path
from typing import Any

import pytest

from worker.bootstrap.service import run_worker
from worker.bootstrap.stores import ConfiguredStores
from worker.jobs.errors import FileNotHashedError
from worker.libsafe.models import Storage
from worker.settings import Settings, SettingsError


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Begin with no file and no variable."""
    monkeypatch.chdir(tmp_path)


def settings_with(**endpoints: str | None) -> Settings:
    """Make settings that hold a storage for each id, at its endpoint."""
    tables: Any = {
        storage_id: {"access_key": "a", "secret_key": "s", "endpoint_url": endpoint}
        for storage_id, endpoint in endpoints.items()
    }
    return Settings(storages=tables)


async def code_of(settings: Settings, storage: Storage) -> str | None:
    """Open the store of a record; give the code of the error, or None without one."""
    async with ConfiguredStores(settings) as stores:
        try:
            await stores.store(storage)
        except FileNotHashedError as error:
            return error.code
    return None


@pytest.mark.parametrize(
    ("endpoint", "code"),
    [
        (None, None),
        ("https://s3.example.org", None),
        ("https://S3.example.org:443/", None),
        ("http://s3.example.org", "endpoint_not_allowed"),
        ("https://s3.example.org:8443", "endpoint_not_allowed"),
        ("https://s3.example.com", "endpoint_not_allowed"),
        ("s3.example.org", "endpoint_not_allowed"),
    ],
)
async def test_default_serves_no_storage_that_is_elsewhere(endpoint: str | None, code: str | None) -> None:
    """Scheme, host and port are compared: at another place an object of the same name is another object."""
    settings = settings_with(default="https://s3.example.org")

    assert await code_of(settings, Storage(id="7", bucket="archive", endpoint=endpoint)) == code


async def test_a_table_of_its_own_says_where_a_storage_is() -> None:
    """Within a network the address may be another than the platform's."""
    settings = settings_with(prod="http://minio:9000", default="https://s3.example.org")

    elsewhere = Storage(id="Prod", bucket="archive", endpoint="https://s3.example.com")

    assert await code_of(settings, elsewhere) is None


async def test_an_endpoint_that_the_settings_do_not_name_is_sent_no_key() -> None:
    """Without endpoint_url a table means AWS, and the platform's record can't change it."""
    elsewhere = Storage(id="7", bucket="archive", endpoint="https://s3.example.com")

    assert await code_of(settings_with(**{"7": None}), elsewhere) == "endpoint_not_allowed"


async def test_a_region_that_none_can_be_fails_the_file_and_not_the_task() -> None:
    """The record's region goes into the host's name, so botocore refuses it."""
    storage = Storage(id="7", bucket="archive", region="eu west")

    assert await code_of(settings_with(default=None), storage) == "storage_not_opened"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--pool=prefork"], "leave out -P and --pool"),
        (["--pool", "solo"], "leave out -P and --pool"),
        (["-EP", "threads"], "leave out -P and --pool"),
        (["--no-such-option"], "--no-such-option"),
        (["--concurrency=many"], "--concurrency"),
    ],
)
def test_an_option_of_celery_that_can_not_be_is_refused_before_anything_starts(
    options: list[str], told: str
) -> None:
    """In a forked child there is no event loop's thread: its first job would wait for ever."""
    with pytest.raises(SettingsError, match=told):
        run_worker(Settings(), options)


def test_an_unknown_default_algorithm_stops_the_worker_at_its_start() -> None:
    """The error names the setting."""
    hashing: Any = {"algorithms": ["md6"]}

    with pytest.raises(SettingsError, match=r"hashing\.algorithms: .*md6"):
        run_worker(Settings(hashing=hashing))


@pytest.mark.parametrize("option", ["-D", "--detach", "-P", "--pool"])
def test_an_option_of_celery_that_can_not_work_here_is_refused(option: str) -> None:
    """In a process begun anew, or forked, there would be neither our task nor our lanes."""
    options = [option, "solo"] if option in {"-P", "--pool"} else [option]

    with pytest.raises(SettingsError, match="leave out"):
        run_worker(Settings(), options)
