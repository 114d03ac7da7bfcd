"""The platform's records in SQLite. All SQL is here.

Ids are strings outside and integers in the tables: SQLite's integer affinity turns one into the other, in
comparisons too, and the API lets nothing but digits through.
"""

import hashlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from worker.local.errors import ConflictError, NoSuchKeyError, NoSuchRecordError, NotAllowedError
from worker.local.models import (
    ENDED,
    Container,
    File,
    FileHash,
    Job,
    JobStatus,
    Message,
    MetadataItem,
    NewMessage,
    Page,
    Storage,
)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS storage (
    id INTEGER PRIMARY KEY, bucket TEXT NOT NULL, endpoint TEXT, region TEXT NOT NULL,
    key_prefix TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS container (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, storage_id INTEGER NOT NULL REFERENCES storage);
CREATE TABLE IF NOT EXISTS access_key (
    id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, sees_all INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS access_grant (
    key_id INTEGER NOT NULL REFERENCES access_key, container_id INTEGER NOT NULL REFERENCES container,
    PRIMARY KEY (key_id, container_id));
CREATE TABLE IF NOT EXISTS file (
    id INTEGER PRIMARY KEY, container_id INTEGER NOT NULL REFERENCES container, fullpath TEXT NOT NULL,
    size INTEGER NOT NULL, type TEXT NOT NULL, deleted INTEGER NOT NULL, storage_class_id INTEGER NOT NULL,
    UNIQUE (container_id, fullpath));
CREATE INDEX IF NOT EXISTS file_page ON file (container_id, id);
CREATE TABLE IF NOT EXISTS metadata (
    id INTEGER PRIMARY KEY, file_id INTEGER NOT NULL REFERENCES file, iecode TEXT NOT NULL,
    value TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS metadata_file ON metadata (file_id);
CREATE TABLE IF NOT EXISTS hash (
    file_id INTEGER NOT NULL REFERENCES file, algorithm TEXT NOT NULL, hash TEXT NOT NULL,
    PRIMARY KEY (file_id, algorithm));
CREATE TABLE IF NOT EXISTS job (
    id INTEGER PRIMARY KEY, container_id INTEGER NOT NULL REFERENCES container, status TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS message (
    id INTEGER PRIMARY KEY, job_id INTEGER NOT NULL REFERENCES job, file_id INTEGER REFERENCES file,
    type TEXT NOT NULL, message TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS message_job ON message (job_id, id);
CREATE TABLE IF NOT EXISTS answer (
    key_id INTEGER NOT NULL, route TEXT NOT NULL, idempotency_key TEXT NOT NULL, fingerprint BLOB NOT NULL,
    answer BLOB NOT NULL, PRIMARY KEY (key_id, route, idempotency_key));
"""

# The containers that a record belongs to: no row where the record does not exist.
_OWNERS = {
    "job": "SELECT container_id FROM job WHERE id = ?",
    "file": "SELECT container_id FROM file WHERE id = ?",
    "container": "SELECT id FROM container WHERE id = ?",
    "storage": "SELECT container.id FROM storage LEFT JOIN container ON storage_id = storage.id"
    " WHERE storage.id = ?",
}

_FILE_COLUMNS = "id, container_id, fullpath, size, type, deleted, storage_class_id"


@dataclass(frozen=True, slots=True)
class Access:
    """What a key may see.

    Args:
        key_id: The key's number in the store; never the key.
        containers: Ids of the containers; None is all of them.
    """

    key_id: int
    containers: frozenset[str] | None


@dataclass(frozen=True, slots=True)
class Repeatable:
    """A write that its client may send again.

    Args:
        route: Method and path.
        idempotency_key: The client's name for this write, unique on this route.
        fingerprint: A digest of the body.
    """

    route: str
    idempotency_key: str
    fingerprint: bytes


class PlatformStore:
    """The records of one platform, used from one thread; another process may have the file open as well.

    Args:
        path: The database file, made if it is missing; None keeps everything in memory.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._where = "memory" if path is None else str(path)
        self._db = sqlite3.connect(":memory:" if path is None else path, isolation_level=None)
        # No fsync: this platform ends with its process, and a commit costs microseconds instead of ms.
        self._db.executescript(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; PRAGMA foreign_keys = ON;" + _SCHEMA
        )

    def __repr__(self) -> str:
        return f"<PlatformStore in {self._where}>"

    def close(self) -> None:
        """Close the database; twice is fine."""
        self._db.close()

    # Filling

    def add_storage(
        self, bucket: str, *, endpoint: str | None, region: str = "us-east-1", key_prefix: str = ""
    ) -> str:
        """Add a storage and return its id; an endpoint of None is Amazon's own."""
        return self._insert(
            "INSERT INTO storage (bucket, endpoint, region, key_prefix) VALUES (?, ?, ?, ?)",
            (bucket, endpoint, region, key_prefix),
        )

    def add_container(self, name: str, storage_id: str) -> str:
        """Add a container and return its id.

        Raises:
            NoSuchRecordError: There is no such storage.
        """
        with _exists(f"Storage {storage_id}"):
            return self._insert("INSERT INTO container (name, storage_id) VALUES (?, ?)", (name, storage_id))

    def add_user_key(self, key: str, containers: Iterable[str]) -> str:
        """Let a key see these containers, and return the id of its user. Only a digest of the key is kept.

        Raises:
            NoSuchRecordError: There is no such container.
        """
        with self._transaction():
            key_id = self._insert(
                "INSERT INTO access_key (digest, sees_all) VALUES (?, 0)", (_key_digest(key),)
            )
            for container_id in containers:
                with _exists(f"Container {container_id}"):
                    self._db.execute("INSERT INTO access_grant VALUES (?, ?)", (key_id, container_id))
        return key_id

    def add_root_key(self, key: str) -> str:
        """Let a key see everything, and return the id of its user. Only a digest of the key is kept."""
        return self._insert("INSERT INTO access_key (digest, sees_all) VALUES (?, 1)", (_key_digest(key),))

    def add_file(
        self,
        container_id: str,
        fullpath: str,
        *,
        size_bytes: int,
        kind: Literal["FILE", "FOLDER"] = "FILE",
        deleted: bool = False,
        storage_class_id: str = "1",
    ) -> str:
        """Add a file's record, or renew the one at this path, and return its id.

        Args:
            container_id: The container that holds it.
            fullpath: With a leading slash, unique in its container.
            size_bytes: Zero for a folder.
            kind: A file or a folder.
            deleted: Whether the platform has the record still, but not the object.
            storage_class_id: Where the object lies; the platform's own number.

        Raises:
            NoSuchRecordError: There is no such container.
        """
        with _exists(f"Container {container_id}"):
            row = self._db.execute(
                "INSERT INTO file (container_id, fullpath, size, type, deleted, storage_class_id)"
                " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (container_id, fullpath) DO UPDATE SET"
                " size = excluded.size, type = excluded.type, deleted = excluded.deleted,"
                " storage_class_id = excluded.storage_class_id RETURNING id",
                (container_id, fullpath, size_bytes, kind, int(deleted), storage_class_id),
            ).fetchone()
        return str(row[0])

    def add_metadata(self, file_id: str, iecode: str, value: str) -> None:
        """Add one metadata value to a file.

        Raises:
            NoSuchRecordError: There is no such file.
        """
        with _exists(f"File {file_id}"):
            self._insert(
                "INSERT INTO metadata (file_id, iecode, value) VALUES (?, ?, ?)", (file_id, iecode, value)
            )

    def add_job(self, container_id: str, *, least_id: int = 1) -> str:
        """Add a job that nobody has begun, and return its id: one more than the newest job's.

        Args:
            container_id: Whose files it is about.
            least_id: The first job's id.

        Raises:
            NoSuchRecordError: There is no such container.
        """
        with _exists(f"Container {container_id}"):
            return self._insert(
                "INSERT INTO job (id, container_id, status)"
                " SELECT max(coalesce(max(id), 0) + 1, ?), ?, ? FROM job",
                (least_id, container_id, JobStatus.PENDING),
            )

    # Who may see what

    def access(self, key: str) -> Access:
        """Tell what a key may see.

        Raises:
            NoSuchKeyError: The key opens nothing here.
        """
        rows = self._db.execute(
            "SELECT id, sees_all, container_id FROM access_key LEFT JOIN access_grant ON key_id = id"
            " WHERE digest = ?",
            (_key_digest(key),),
        ).fetchall()
        if not rows:
            raise NoSuchKeyError("This key is not known here: check the key of the payload.")
        key_id, sees_all, _ = rows[0]
        return Access(key_id, None if sees_all else frozenset(str(row[2]) for row in rows))

    def check(self, access: Access, kind: str, record_id: str) -> None:
        """Let a key see a job, file, container or storage, or raise.

        Raises:
            NoSuchRecordError: There is no such record.
            NotAllowedError: It is in a container that the key may not see.
        """
        rows = self._db.execute(_OWNERS[kind], (record_id,)).fetchall()
        if not rows:
            raise _missing(kind, record_id)
        if access.containers is not None and access.containers.isdisjoint(str(row[0]) for row in rows):
            raise NotAllowedError(f"This key may not see {kind} {record_id}: use a key of its container.")

    # Reading

    def job(self, job_id: str) -> Job:
        """Return a job, or raise NoSuchRecordError."""
        job_id, status = self._one("job", job_id, "SELECT id, status FROM job WHERE id = ?")
        return Job(id=str(job_id), status=JobStatus(status))

    def messages(self, job_id: str) -> list[Message]:
        """Return a job's messages, the oldest first; an unknown job has none."""
        rows = self._db.execute(
            "SELECT id, message, type, file_id FROM message WHERE job_id = ? ORDER BY id", (job_id,)
        )
        return [
            Message(
                id=str(row[0]), message=row[1], type=row[2], file_id=None if row[3] is None else str(row[3])
            )
            for row in rows
        ]

    def file(self, file_id: str) -> File:
        """Return a file's record, or raise NoSuchRecordError."""
        return _file(self._one("file", file_id, f"SELECT {_FILE_COLUMNS} FROM file WHERE id = ?"))  # noqa: S608 - a constant

    def file_at(self, container_id: str, path: str) -> File:
        """Return the record of the file at a path without leading slash, or raise NoSuchRecordError."""
        row = self._db.execute(
            f"SELECT {_FILE_COLUMNS} FROM file WHERE container_id = ? AND fullpath = ?",  # noqa: S608 - a constant
            (container_id, "/" + path),
        ).fetchone()
        if row is None:
            raise NoSuchRecordError(f"Container {container_id} has no file /{path}.")
        return _file(row)

    def files(self, container_id: str, page: Page | None = None) -> list[File]:
        """Return a page of a container's files, or all of them, in ascending order of id."""
        after, limit = (page.after, page.limit) if page else ("0", -1)
        rows = self._db.execute(
            f"SELECT {_FILE_COLUMNS} FROM file WHERE container_id = ? AND id > ? ORDER BY id LIMIT ?",  # noqa: S608 - a constant
            (container_id, after, limit),
        )
        return [_file(row) for row in rows]

    def metadata(self, file_id: str) -> list[MetadataItem]:
        """Return a file's metadata in the order of adding."""
        rows = self._db.execute(
            "SELECT iecode, value FROM metadata WHERE file_id = ? ORDER BY id", (file_id,)
        )
        return [MetadataItem(iecode=iecode, value=value) for iecode, value in rows]

    def hashes(self, file_id: str) -> list[FileHash]:
        """Return a file's stored hashes by name of algorithm."""
        rows = self._db.execute(
            "SELECT algorithm, hash FROM hash WHERE file_id = ? ORDER BY algorithm", (file_id,)
        )
        return [FileHash(algorithm=algorithm, hash=hash_) for algorithm, hash_ in rows]

    def hashed_files(self) -> int:
        """Return how many files have a stored hash."""
        return int(self._db.execute("SELECT count(DISTINCT file_id) FROM hash").fetchone()[0])

    def container(self, container_id: str) -> Container:
        """Return a container, or raise NoSuchRecordError."""
        row = self._one("container", container_id, "SELECT id, name, storage_id FROM container WHERE id = ?")
        return Container(id=str(row[0]), name=row[1], storage_id=str(row[2]))

    def storage(self, storage_id: str) -> Storage:
        """Return a storage, or raise NoSuchRecordError."""
        row = self._one(
            "storage", storage_id, "SELECT id, bucket, endpoint, region, key_prefix FROM storage WHERE id = ?"
        )
        return Storage(id=str(row[0]), bucket=row[1], endpoint=row[2], region=row[3], key_prefix=row[4])

    # Writing

    def once(self, access: Access, write: Repeatable | None, do: Callable[[], bytes]) -> bytes:
        """Do a write and keep its answer in one transaction; a repeated one gets that answer and is not done.

        A write that raises leaves nothing behind, its key included.

        Args:
            access: Whose write it is; two keys' writes never meet.
            write: What makes two writes the same; None is done each time.
            do: Does it and returns the answer.

        Raises:
            ConflictError: The same idempotency key came with another body.
        """
        with self._transaction():
            if write is None:
                return do()
            name = (access.key_id, write.route, write.idempotency_key)
            row = self._db.execute(
                "SELECT fingerprint, answer FROM answer"
                " WHERE key_id = ? AND route = ? AND idempotency_key = ?",
                name,
            ).fetchone()
            if row is None:
                answer = do()
                self._db.execute(
                    "INSERT INTO answer VALUES (?, ?, ?, ?, ?)", (*name, write.fingerprint, answer)
                )
                return answer
            if row[0] != write.fingerprint:
                raise ConflictError("This Idempotency-Key came before with another body: make a new key.")
            return bytes(row[1])

    def set_status(self, job_id: str, status: JobStatus) -> Job:
        """Set a job's status and return the job; setting it twice is fine.

        Raises:
            NoSuchRecordError: There is no such job.
            ConflictError: The job has ended with another status.
        """
        now = self.job(job_id).status
        if now in ENDED and now != status:
            raise ConflictError(f"Job {job_id} has ended {now} and cannot become {status}.")
        self._db.execute("UPDATE job SET status = ? WHERE id = ?", (status, job_id))
        return Job(id=job_id, status=status)

    def add_message(self, job_id: str, new: NewMessage) -> Message:
        """Add a message to a job, also to one that has ended.

        Raises:
            NoSuchRecordError: There is no such job, or its container has no such file.
        """
        if new.file_id is not None:
            found = self._db.execute(
                "SELECT 1 FROM job JOIN file USING (container_id) WHERE job.id = ? AND file.id = ?",
                (job_id, new.file_id),
            ).fetchone()
            if found is None:
                raise NoSuchRecordError(f"The container of job {job_id} has no file {new.file_id}.")
        with _exists(f"Job {job_id}"):
            message_id = self._insert(
                "INSERT INTO message (job_id, file_id, type, message) VALUES (?, ?, ?, ?)",
                (job_id, new.file_id, new.type, new.message),
            )
        return Message(id=message_id, message=new.message, type=new.type, file_id=new.file_id)

    def set_hash(self, file_id: str, new: FileHash) -> FileHash:
        """Store a file's hash, in the place of an older one by the same algorithm.

        Raises:
            NoSuchRecordError: There is no such file.
        """
        with _exists(f"File {file_id}"):
            self._db.execute(
                "INSERT INTO hash (file_id, algorithm, hash) VALUES (?, ?, ?)"
                " ON CONFLICT (file_id, algorithm) DO UPDATE SET hash = excluded.hash",
                (file_id, new.algorithm, new.hash),
            )
        return new

    def _insert(self, sql: str, values: tuple[Any, ...]) -> str:
        return str(self._db.execute(sql, values).lastrowid)

    def _one(self, kind: str, record_id: str, sql: str) -> Any:
        row = self._db.execute(sql, (record_id,)).fetchone()
        if row is None:
            raise _missing(kind, record_id)
        return row

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        # Not deferred: what is read in it must not be overtaken by another process's write.
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")


@contextmanager
def _exists(what: str) -> Iterator[None]:
    """Turn a foreign id that does not exist into our error; no other constraint can fail inside."""
    try:
        yield
    except sqlite3.IntegrityError as error:
        raise NoSuchRecordError(f"{what} does not exist.") from error


def _missing(kind: str, record_id: str) -> NoSuchRecordError:
    return NoSuchRecordError(f"There is no {kind} {record_id}.")


def _key_digest(key: str) -> bytes:
    return hashlib.sha256(key.encode(errors="surrogateescape")).digest()


def _file(row: Any) -> File:
    file_id, container_id, fullpath, size, kind, deleted, storage_class_id = row
    return File(
        id=str(file_id),
        container_id=str(container_id),
        filename=fullpath.rpartition("/")[2],
        fullpath=fullpath,
        size=size,
        type=kind,
        deleted=deleted,
        storage_class_id=str(storage_class_id),
    )
