"""An algorithm that is not ours, from the payload to the platform."""

import zlib
from typing import Any

import pytest

from tests.support.added_algorithms import CRC32, begin_with_ours_alone, run_cell
from worker.hashing.registry import register_algorithm
from worker.settings import Settings

pytestmark = pytest.mark.asyncio(loop_scope="module")

_CRC32 = f"{zlib.crc32(b'abc'):08x}"


@pytest.fixture(autouse=True)
def _nothing_added(monkeypatch: pytest.MonkeyPatch) -> None:
    begin_with_ours_alone(monkeypatch)


def _names(settings: Settings, **hash_names: str) -> Settings:
    api = settings.api.model_copy(update={"hash_names": settings.api.hash_names | hash_names})
    return settings.model_copy(update={"api": api})


async def test_it_is_stored_by_its_own_name(bench: Any) -> None:
    """Whoever adds an algorithm wants it stored; it may be added while the worker runs."""
    register_algorithm("crc_32.v2", run_cell(CRC32)["Crc32"], label="CRC-32")
    file_id = await bench.add(b"abc")

    ended = await bench.run(file_ids=[file_id], function_params={"algorithms": ["crc_32.v2"]})

    assert ended.status == "COMPLETED"
    assert f"File hash calculated: CRC-32 - {_CRC32}" in ended.texts
    assert bench.platform.hashes(file_id) == {"crc_32.v2": _CRC32}


@pytest.mark.parametrize(("name", "stored"), [("checksum", {"checksum": _CRC32}), ("", {})])
async def test_the_settings_may_say_another_name_or_none(
    bench_with: Any, settings: Settings, name: str, stored: dict[str, str]
) -> None:
    """With an empty name the digest is told and not stored, and the job is COMPLETED."""
    register_algorithm("crc32", run_cell(CRC32)["Crc32"])
    async with bench_with(_names(settings, crc32=name)) as bench:
        file_id = await bench.add(b"abc")
        ended = await bench.run(file_ids=[file_id], function_params={"algorithms": ["crc32"]})

    assert ended.status == "COMPLETED"
    assert f"File hash calculated: CRC32  - {_CRC32}" in ended.texts
    assert bench.platform.hashes(file_id) == stored


async def test_one_that_fails_fails_its_files_with_a_sentence(bench: Any) -> None:
    """The job tells the file, the algorithm and the reason; nothing of the file is stored."""
    guard = "(self, data):\n        assert data[:1] != b'!', 'no exclamation'"
    register_algorithm("crc32", run_cell(CRC32.replace("(self, data):", guard))["Crc32"])
    good, bad = await bench.add(b"abc"), await bench.add(b"!abc", "bad.bin")

    ended = await bench.run(file_ids=[good, bad], function_params={"algorithms": ["md5", "crc32"]})

    reason = "Hashing with crc32 failed: AssertionError: no exclamation."
    assert ended.status == "FAILED"
    assert [text.endswith(reason) for text in ended.texts].count(True) == 1
    assert bench.platform.hashes(bad) == {}
    assert bench.platform.hashes(good).keys() == {"md5", "crc32"}
