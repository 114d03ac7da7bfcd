"""What a job does, from the payload to its end on the platform."""

import dataclasses
import hashlib
import os
import signal
from typing import Any

import pytest
from aiohttp import web
from blake3 import blake3

from worker.jobs import file_run, object_digests, run
from worker.libsafe.client import PlatformClient
from worker.libsafe.errors import PlatformBusyError, RejectedError
from worker.libsafe.models import JobStatus
from worker.local.api import serve
from worker.settings import Settings, StorageSettings
from worker.storage.object_version import ObjectAddress, ObjectVersion
from worker.storage.reader import read_object
from worker.storage.store import ObjectStore

pytestmark = pytest.mark.asyncio(loop_scope="module")

RANGE_BYTES = 65536
CONTENT = bytes(range(251)) * 1200


async def test_a_job_stores_every_hash_tells_every_digest_and_ends_completed(bench: Any) -> None:
    """One file: metadata, four digests in the platform's own words, four hashes, a summary, COMPLETED."""
    file_id = await bench.add(CONTENT)

    ended = await bench.run(file_ids=[file_id])

    expected = {
        "md5": hashlib.md5(CONTENT, usedforsecurity=False).hexdigest(),
        "sha1": hashlib.sha1(CONTENT, usedforsecurity=False).hexdigest(),
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
        "blake3": blake3(CONTENT).hexdigest(),
    }
    assert ended.status == "COMPLETED"
    assert bench.platform.hashes(file_id) == expected
    assert ended.texts[:-1] == [
        f"File {file_id} has no metadata",
        f"File hash calculated: MD5    - {expected['md5']}",
        f"File hash calculated: SHA1   - {expected['sha1']}",
        f"File hash calculated: SHA256 - {expected['sha256']}",
        f"File hash calculated: BLAKE3 - {expected['blake3']}",
    ]
    assert ended.file_ids == [file_id] * 5 + [None]
    assert ended.texts[-1].startswith(f"Hashed 1 file, {len(CONTENT)} bytes in ")
    assert ended.texts[-1].endswith(" MB/s.")


@pytest.mark.parametrize(
    "size_bytes",
    [0, 1, RANGE_BYTES - 1, RANGE_BYTES, RANGE_BYTES + 1, 4 * RANGE_BYTES, 4 * RANGE_BYTES + 1],
)
async def test_a_file_of_any_size_around_ranges_and_the_ring_gets_its_right_digest(
    bench: Any, size_bytes: int
) -> None:
    """Empty, one byte, one less, a range, one more, the whole ring of four slots, and one byte more."""
    content = (CONTENT * 2)[:size_bytes]
    file_id = await bench.add(content)

    await bench.run(file_ids=[file_id], function_params={"algorithms": ["sha256"]})

    assert bench.platform.hashes(file_id) == {"sha256": hashlib.sha256(content).hexdigest()}


async def test_metadata_is_told_as_formatted_json(bench: Any) -> None:
    """A file with metadata gets it as one message, pretty and flat."""
    file_id = await bench.add(b"x")
    bench.platform.store.add_metadata(file_id, "c_title", "Straße")

    ended = await bench.run(file_ids=[file_id])

    assert ended.texts[0] == '{\n    "c_title": "Straße"\n}'


async def test_the_payload_chooses_the_algorithms(bench: Any) -> None:
    """`function_params.algorithms` decides, here as one text."""
    file_id = await bench.add(b"abc")

    await bench.run(file_ids=[file_id], function_params={"algorithms": "sha512, crc32c"})

    assert bench.platform.hashes(file_id) == {
        "sha512": hashlib.sha512(b"abc").hexdigest(),
        "crc32c": "364b3fb7",
    }


async def test_an_unknown_algorithm_fails_the_job_before_the_first_byte(bench: Any) -> None:
    """The job ends FAILED, names the algorithm, and no file has a hash."""
    file_id = await bench.add(b"abc")

    ended = await bench.run(file_ids=[file_id], function_params={"algorithms": ["md5", "md6"]})

    assert ended.status == "FAILED"
    assert "md6" in ended.texts[0]
    assert bench.platform.hashes(file_id) == {}


async def test_files_that_cannot_be_hashed_are_told_with_their_reason_and_the_others_go_on(
    bench_with: Any, settings: Settings
) -> None:
    """Each gets a message with id, path and reason; the end is FAILED with a count of each reason.

    A deleted file is passed over without a word.
    """
    async with bench_with(changed(settings, "worker", offline_storage_class_ids=("7",))) as bench:
        store, container_id = bench.platform.store, bench.platform.container_id
        good = await bench.add(b"good")
        deleted = store.add_file(container_id, "/deleted", size_bytes=1, deleted=True)
        offline = store.add_file(container_id, "/cold", size_bytes=1, storage_class_id="7")
        no_object = store.add_file(container_id, "/no-object", size_bytes=1)

        ended = await bench.run(file_ids=["999999", deleted, good, offline, no_object], paths=["/nowhere"])

    about = {text.split(" was not hashed")[0]: text for text in ended.texts if "was not hashed" in text}
    assert ended.status == "FAILED"
    assert list(bench.platform.hashes(good)) == ["blake3", "md5", "sha1", "sha256"]
    assert about.keys() == {
        "ERROR: File 999999",
        "ERROR: File /nowhere",
        f"WARNING: File {offline} (/cold)",
        f"ERROR: File {no_object} (/no-object)",
    }
    assert "s3://archive/no-object" in about[f"ERROR: File {no_object} (/no-object)"]
    assert ended.texts[-1].endswith(
        "3 files not hashed: 2 no such file, 1 no such object; 2 files passed over: 1 deleted, 1 offline."
    )


@pytest.mark.parametrize(("offline_is_error", "status"), [(False, "COMPLETED"), (True, "FAILED")])
async def test_an_offline_file_fails_its_job_only_where_the_settings_say_so(
    bench_with: Any, settings: Settings, *, offline_is_error: bool, status: str
) -> None:
    """An archive keeps whole shelves off-line; they are named and counted all the same."""
    own = changed(settings, "worker", offline_storage_class_ids=("7",), offline_is_error=offline_is_error)
    async with bench_with(own) as bench:
        store, container_id = bench.platform.store, bench.platform.container_id
        path = f"/cold {offline_is_error}"
        offline = store.add_file(container_id, path, size_bytes=1, storage_class_id="7")

        ended = await bench.run(file_ids=[offline])

    level, counted = ("ERROR", "not hashed") if offline_is_error else ("WARNING", "passed over")
    assert ended.status == status
    assert ended.texts[0].startswith(f"{level}: File {offline} ({path}) was not hashed: its storage class")
    assert ended.texts[-1].startswith("Hashed 0 files, 0 bytes")
    assert ended.texts[-1].endswith(f"; 1 file {counted}: 1 offline.")


async def test_a_folder_that_is_named_means_what_is_under_it(bench: Any) -> None:
    """All of it, and each file once; nothing is said of the folder itself."""
    store, container_id = bench.platform.store, bench.platform.container_id
    under = await bench.add(b"under", "under.bin")
    folder_path = store.file(under).fullpath.rpartition("/")[0]
    folder = store.add_file(container_id, folder_path, size_bytes=0, kind="FOLDER")
    beside = await bench.add(b"beside", "beside.bin")

    ended = await bench.run(file_ids=[folder, under])

    assert ended.status == "COMPLETED"
    assert ended.texts[-1].startswith("Hashed 1 file, 5 bytes")
    assert "sha256" in bench.platform.hashes(under)
    assert bench.platform.hashes(beside) == {}


async def test_an_object_that_changes_while_it_is_read_fails_and_gets_no_digest(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was pinned is read, or nothing is: S3 itself refuses another ETag."""
    file_id = await bench.add(CONTENT)
    read_first = ObjectStore.read_first

    async def pin_what_was_before(
        self: ObjectStore, address: ObjectAddress, destination: memoryview, on_pinned: Any
    ) -> None:
        def older(version: ObjectVersion) -> None:
            on_pinned(dataclasses.replace(version, etag='"of an older version"'))

        await read_first(self, address, destination, older)

    monkeypatch.setattr(ObjectStore, "read_first", pin_what_was_before)
    ended = await bench.run(file_ids=[file_id])

    assert ended.status == "FAILED"
    assert ended.texts[-1].endswith("1 file not hashed: 1 changed while reading.")
    assert bench.platform.hashes(file_id) == {}


@pytest.mark.parametrize(
    ("s3_code", "counted"),
    [
        ("AccessDenied", "not hashed: 1 access denied"),
        ("InvalidObjectState", "passed over: 1 offline"),
        ("ExpiredToken", "not hashed: 1 credentials expired"),
    ],
)
async def test_what_s3_refuses_is_counted_by_its_reason(
    bench_with: Any, settings: Settings, s3_code: str, counted: str
) -> None:
    """Access denied, cold storage and stale credentials are told apart; the cold is no error."""

    async def refuse(_: web.Request) -> web.Response:
        body = f"<Error><Code>{s3_code}</Code><Message>no</Message></Error>"
        return web.Response(status=403, text=body, content_type="application/xml")

    refusing = web.Application()
    refusing.router.add_route("*", "/{tail:.*}", refuse)
    (storage_id,) = settings.storages
    async with (
        serve(refusing) as endpoint,
        bench_with(changed(settings, "storages", **{storage_id: elsewhere(settings, endpoint)})) as bench,
    ):
        file_id = await bench.add(b"x")
        ended = await bench.run(file_ids=[file_id])

    assert ended.status == ("COMPLETED" if "passed over" in counted else "FAILED")
    assert ended.texts[-1].endswith(f"; 1 file {counted}.")


async def test_a_storage_without_credentials_is_said_to_have_none(
    bench_with: Any, settings: Settings
) -> None:
    """Credentials never come with a payload; where the settings lack them, the message says so."""
    async with bench_with(settings.model_copy(update={"storages": {}})) as bench:
        ended = await bench.run(file_ids=[await bench.add(b"x")])

    assert ended.texts[-1].endswith("1 file not hashed: 1 no credentials.")
    assert f"no S3 credentials for storage {bench.platform.storage_id}" in ended.texts[0]


async def test_credentials_for_aws_are_not_sent_to_an_endpoint_that_the_platform_names(
    bench_with: Any, settings: Settings
) -> None:
    """Without an endpoint in the settings, the keys belong to AWS; another endpoint is refused."""
    (storage_id,) = settings.storages
    async with bench_with(changed(settings, "storages", **{storage_id: elsewhere(settings, None)})) as bench:
        ended = await bench.run(file_ids=[await bench.add(b"x")])

    assert ended.texts[-1].endswith("1 file not hashed: 1 endpoint not allowed.")


async def test_a_file_named_by_id_and_by_path_is_hashed_once(bench: Any) -> None:
    """Ids and paths may overlap; each file counts once."""
    file_id = await bench.add(b"once", "once.bin")
    path = bench.platform.store.file(file_id).fullpath

    ended = await bench.run(file_ids=[file_id], paths=[path])

    assert ended.texts[-1].startswith("Hashed 1 file, 4 bytes")
    assert ended.status == "COMPLETED"


async def test_what_the_platform_does_not_store_stays_a_message(bench_with: Any, settings: Settings) -> None:
    """An algorithm without a name on the platform is told and not stored, and the job is COMPLETED."""
    async with bench_with(changed(settings, "api", hash_names={"md5": "md5"})) as bench:
        file_id = await bench.add(b"abc")
        ended = await bench.run(file_ids=[file_id])

    assert list(bench.platform.hashes(file_id)) == ["md5"]
    assert any(text.startswith("File hash calculated: BLAKE3 - ") for text in ended.texts)
    assert ended.status == "COMPLETED"


async def test_a_hash_that_the_platform_refuses_fails_the_job(bench_with: Any, settings: Settings) -> None:
    """A digest that is known but not stored is not a success."""
    async with bench_with(changed(settings, "api", hash_names={"md5": "NO SUCH NAME"})) as bench:
        file_id = await bench.add(b"abc")
        ended = await bench.run(file_ids=[file_id], function_params={"algorithms": "md5"})

    assert ended.status == "FAILED"
    assert any(f"The md5 hash of file {file_id} was not stored" in text for text in ended.texts)
    assert ended.texts[-1].endswith(" The platform refused 1 report.")


async def test_a_bug_in_one_file_fails_that_file_and_never_leaves_the_job_running(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error nobody thought of costs one file; its text, which may hold anything, is not sent."""

    async def broken(*_: Any, **__: Any) -> None:
        raise KeyError("a secret")

    file_id = await bench.add(b"abc")
    monkeypatch.setattr(file_run, "hash_object", broken)
    ended = await bench.run(file_ids=[file_id])

    assert ended.status == "FAILED"
    assert ended.texts[-1].endswith("1 file not hashed: 1 internal error.")
    assert "KeyError" in ended.texts[0]
    assert not any("secret" in text for text in ended.texts)


async def test_a_bug_outside_any_file_ends_the_job_failed(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever happens, the job does not stay RUNNING."""

    def broken(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(run, "Plan", broken)
    ended = await bench.run()

    assert ended.status == "FAILED"
    assert "ZeroDivisionError" in ended.texts[0]


async def test_a_lane_that_dies_makes_its_object_be_read_again(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The digest is right, and the user sees nothing of it."""
    file_id = await bench.add(CONTENT)
    read = read_object
    deaths = iter([True])

    def kill_a_lane_first(*arguments: Any, **options: Any) -> Any:
        if next(deaths, False):
            pool = bench.deliveries._runner._tools.lanes
            os.kill(pool.lane_pids[0], signal.SIGKILL)
            os.kill(pool.lane_pids[1], signal.SIGKILL)
        return read(*arguments, **options)

    monkeypatch.setattr(object_digests, "read_object", kill_a_lane_first)
    ended = await bench.run(file_ids=[file_id], function_params={"algorithms": "xxh3-64 sha256"})

    assert ended.status == "COMPLETED"
    assert bench.platform.hashes(file_id)["sha256"] == hashlib.sha256(CONTENT).hexdigest()


async def test_a_payload_with_faults_fails_its_job_with_all_of_them(bench: Any) -> None:
    """Where address, key and job can be read, the user is told what is wrong with the rest."""
    job_id, payload = bench.platform.new_job()
    payload["function_data"]["files"]["ids"] = [True, None]
    payload["function_params"] = {"algorithms": 5}

    ended = bench.ended(job_id, await bench.handle(payload))

    assert ended.status == "FAILED"
    assert "function_data.files.ids[0]" in ended.texts[0]
    assert "function_data.files.ids[1]" in ended.texts[0]
    assert "function_params.algorithms" in ended.texts[0]


async def test_a_file_that_the_key_may_not_see_fails_alone(bench: Any) -> None:
    """The platform answers 403 for one record; the others go on, and the job ends."""
    store = bench.platform.store
    foreign = store.add_file(store.add_container("Foreign", bench.platform.storage_id), "/x", size_bytes=1)
    mine = await bench.add(b"mine")

    ended = await bench.run(file_ids=[foreign, mine])

    assert ended.status == "FAILED"
    assert ended.texts[-1].endswith("1 file not hashed: 1 not permitted.")
    assert list(bench.platform.hashes(mine)) == ["blake3", "md5", "sha1", "sha256"]


async def test_a_record_that_the_platform_fails_to_give_costs_one_file(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server error for one file is no reason to begin the whole job again."""
    broken, good = await bench.add(b"broken"), await bench.add(b"good")
    metadata = PlatformClient.metadata

    async def busy(self: PlatformClient, file_id: str) -> Any:
        if file_id == broken:
            raise PlatformBusyError("The platform could not do it now.")
        return await metadata(self, file_id)

    monkeypatch.setattr(PlatformClient, "metadata", busy)
    ended = await bench.run(file_ids=[broken, good])

    assert ended.texts[-1].endswith("1 file not hashed: 1 platform busy.")
    assert bench.platform.hashes(good)


async def test_a_bug_in_sending_ends_the_job_failed(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What can't be sent must not hold up the end of the job too."""
    file_id = await bench.add(b"abc")

    async def broken(*_: Any) -> None:
        raise KeyError("a secret")

    monkeypatch.setattr(PlatformClient, "set_hash", broken)
    ended = await bench.run(file_ids=[file_id])

    assert ended.status == "FAILED"
    assert any("was not stored" in text and "KeyError" in text for text in ended.texts)
    assert not any("secret" in text for text in ended.texts)


async def test_a_platform_that_refuses_running_to_a_running_job_does_not_stop_it(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message that comes again after a crash finds its job RUNNING, and brings it to its end."""
    set_status = PlatformClient.set_job_status

    async def refuse_running(self: PlatformClient, job_id: str, status: str, key: str) -> None:
        if status == "RUNNING":
            await set_status(self, job_id, JobStatus.RUNNING, key)
            raise RejectedError("It is RUNNING already.")
        await set_status(self, job_id, JobStatus(status), key)

    monkeypatch.setattr(PlatformClient, "set_job_status", refuse_running)
    ended = await bench.run(file_ids=[await bench.add(b"abc")])

    assert ended.status == "COMPLETED"


async def test_a_digest_that_could_be_told_in_no_way_fails_the_job(
    bench_with: Any, settings: Settings
) -> None:
    """For an algorithm that the platform does not store, the message is the digest's only place."""
    async with bench_with(
        changed(settings, "api", hash_names={}, message_types={"INFO": "no type"})
    ) as bench:
        ended = await bench.run(file_ids=[await bench.add(b"abc")])

    assert ended.status == "FAILED"


async def test_a_payload_without_files_means_its_container(bench: Any) -> None:
    """Every file of the container is hashed; folders and deleted ones are passed over."""
    store = bench.platform.store
    own = store.add_container("Its own", bench.platform.storage_id)
    store.add_file(own, "/folder", size_bytes=0, kind="FOLDER")
    store.add_file(own, "/deleted", size_bytes=1, deleted=True)
    elsewhere_id = await bench.add(b"one")
    file_id = store.add_file(own, store.file(elsewhere_id).fullpath, size_bytes=3)
    job_id, payload = bench.platform.new_job()
    payload["function_data"]["container"]["id"] = own
    payload["api"]["key_user"] = payload["api"]["key_root"]

    ended = bench.ended(job_id, await bench.handle(payload))

    assert ended.texts[-1].startswith("Hashed 1 file, 3 bytes")
    assert bench.platform.hashes(file_id)["md5"] == hashlib.md5(b"one", usedforsecurity=False).hexdigest()


async def test_many_files_are_hashed_at_once_and_each_is_right(bench: Any) -> None:
    """Forty files over two lanes and four slots: no digest lands with another file."""
    contents = [bytes([number]) * (number * 7001) for number in range(40)]
    file_ids = [await bench.add(content) for content in contents]

    ended = await bench.run(file_ids=file_ids)

    assert ended.status == "COMPLETED"
    assert [bench.platform.hashes(file_id)["sha256"] for file_id in file_ids] == [
        hashlib.sha256(content).hexdigest() for content in contents
    ]


def changed(settings: Settings, section: str, **values: Any) -> Settings:
    """Give settings that differ in one section."""
    old = getattr(settings, section)
    new = old | values if isinstance(old, dict) else old.model_copy(update=values)
    return settings.model_copy(update={section: new})


def elsewhere(settings: Settings, endpoint_url: str | None) -> StorageSettings:
    """Give the access to the one storage with another endpoint."""
    (access,) = settings.storages.values()
    return access.model_copy(update={"endpoint_url": endpoint_url})
