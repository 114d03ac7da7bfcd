from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from worker.local.errors import ConflictError, NoSuchKeyError, NoSuchRecordError, NotAllowedError
from worker.local.models import FileHash, JobStatus, NewMessage
from worker.local.store import PlatformStore, Repeatable


@pytest.fixture
def store() -> Iterator[PlatformStore]:
    """Give a store with a storage, a container and a file, each of id 1."""
    store = PlatformStore()
    store.add_file(
        store.add_container("mine", store.add_storage("archive", endpoint=None)), "/x", size_bytes=1
    )
    yield store
    store.close()


@pytest.mark.parametrize(
    "refer",
    [
        lambda store: store.add_container("x", "9"),
        lambda store: store.add_user_key("k", ["1", "9"]),
        lambda store: store.add_file("9", "/x", size_bytes=0),
        lambda store: store.add_metadata("9", "title", "x"),
        lambda store: store.add_job("9"),
        lambda store: store.add_message("9", NewMessage(message="x")),
        lambda store: store.set_hash("9", FileHash(algorithm="md5", hash="00")),
        lambda store: store.set_status("9", JobStatus.RUNNING),
        lambda store: store.job("9"),
        lambda store: store.file("9"),
        lambda store: store.container("9"),
        lambda store: store.storage("9"),
    ],
)
def test_an_id_that_does_not_exist_is_named(
    store: PlatformStore, refer: Callable[[PlatformStore], object]
) -> None:
    """Whatever refers to a missing record fails with the record's name in one sentence."""
    with pytest.raises(NoSuchRecordError, match="9"):
        refer(store)


def test_a_key_with_a_container_that_does_not_exist_opens_nothing(store: PlatformStore) -> None:
    """A key is added with all its containers or not at all."""
    with pytest.raises(NoSuchRecordError):
        store.add_user_key("key", ["1", "9"])

    with pytest.raises(NoSuchKeyError):
        store.access("key")


def test_keys_are_not_kept_in_the_database(tmp_path: Path) -> None:
    """A digest is enough to know a key again."""
    path = tmp_path / "platform.sqlite"
    store = PlatformStore(path)
    store.add_root_key("a-secret-root-key")
    store.add_user_key("a-secret-user-key", [])
    store.close()

    kept = b"".join(file.read_bytes() for file in tmp_path.iterdir())

    assert kept
    assert b"a-secret" not in kept


def test_a_key_without_containers_sees_none_and_a_root_key_all(store: PlatformStore) -> None:
    """An empty list is nothing, not everything."""
    store.add_user_key("user", [])
    store.add_root_key("root")

    store.check(store.access("root"), "container", "1")

    with pytest.raises(NotAllowedError):
        store.check(store.access("user"), "container", "1")


def test_a_storage_of_no_container_is_closed_to_users_and_there_for_root(store: PlatformStore) -> None:
    """A user sees the storages of its containers."""
    spare = store.add_storage("spare", endpoint=None)
    store.add_user_key("user", ["1"])
    store.add_root_key("root")

    store.check(store.access("user"), "storage", "1")
    store.check(store.access("root"), "storage", spare)

    with pytest.raises(NotAllowedError):
        store.check(store.access("user"), "storage", spare)


def test_a_file_at_a_known_path_is_renewed_under_its_id(store: PlatformStore) -> None:
    """An overwritten object stays the same file with another size."""
    again = store.add_file("1", "/x", size_bytes=2)

    assert again == "1"
    assert [file.size for file in store.files("1")] == [2]


def test_a_deleted_folder_is_told_as_such(store: PlatformStore) -> None:
    """Kind, deletion and storage class come out as they went in."""
    folder = store.file(
        store.add_file("1", "/f", size_bytes=0, kind="FOLDER", deleted=True, storage_class_id="7")
    )

    assert (folder.type, folder.deleted, folder.storage_class_id) == ("FOLDER", 1, "7")


def test_hashed_files_are_counted_once_however_many_hashes_they_have(store: PlatformStore) -> None:
    """A file counts from its first hash."""
    store.add_file("1", "/y", size_bytes=0)
    before = store.hashed_files()
    for algorithm in ("md5", "sha1"):
        store.set_hash("1", FileHash(algorithm=algorithm, hash="00"))

    assert (before, store.hashed_files()) == (0, 1)


def test_a_write_that_raises_leaves_nothing_behind(store: PlatformStore) -> None:
    """What was done and the key that names it go together."""
    store.add_root_key("root")
    job_id, access = store.add_job("1"), store.access("root")
    write = Repeatable("POST /x", "1", b"body")

    def half_done() -> bytes:
        store.add_message(job_id, NewMessage(message="x"))
        raise ConflictError("no")

    with pytest.raises(ConflictError):
        store.once(access, write, half_done)

    assert store.messages(job_id) == []
    assert store.once(access, write, lambda: b"done") == b"done"


def test_records_outlive_the_store_in_its_file(tmp_path: Path) -> None:
    """A closed database file holds everything; closing twice is fine."""
    path = tmp_path / "platform.sqlite"
    store = PlatformStore(path)
    store.add_storage("archive", endpoint=None)
    store.close()
    store.close()

    again = PlatformStore(path)
    bucket = again.storage("1").bucket
    again.close()

    assert bucket == "archive"
