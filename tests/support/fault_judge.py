"""The judgement, the same for every scenario: what became of the jobs, and whether a key got out."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from worker.local.models import ENDED
from worker.local.store import PlatformStore

BAD = (
    "lost",
    "wrong_digests",
    "double_ends",
    "left_running",
    "duplicate_messages",
    "late_reports",
    "keys_found",
)
"""What must be 0 everywhere."""

# The database itself notes what was applied: a repeated write that the platform answers from its memory
# of idempotency keys is none, nor is one that it refuses.
_NOTES = """
CREATE TABLE IF NOT EXISTS applied (
    seq INTEGER PRIMARY KEY, job_id TEXT, file_id TEXT, kind TEXT NOT NULL, value TEXT NOT NULL);
CREATE TRIGGER IF NOT EXISTS note_status AFTER UPDATE OF status ON job BEGIN
    INSERT INTO applied (job_id, kind, value) VALUES (NEW.id, 'status', NEW.status); END;
CREATE TRIGGER IF NOT EXISTS note_message AFTER INSERT ON message BEGIN
    INSERT INTO applied (job_id, file_id, kind, value)
    VALUES (NEW.job_id, NEW.file_id, 'message', NEW.message); END;
CREATE TRIGGER IF NOT EXISTS note_new_hash AFTER INSERT ON hash BEGIN
    INSERT INTO applied (file_id, kind, value) VALUES (NEW.file_id, 'hash', NEW.algorithm || ' ' || NEW.hash);
    END;
CREATE TRIGGER IF NOT EXISTS note_hash AFTER UPDATE ON hash BEGIN
    INSERT INTO applied (file_id, kind, value) VALUES (NEW.file_id, 'hash', NEW.algorithm || ' ' || NEW.hash);
    END;
"""
_MOST_FINDINGS = 20
_SUMMARY = re.compile(r"Hashed \d+ files?, ")
_DIGEST = re.compile(r"File hash calculated: (\S+) +- ([0-9a-f]+)")


@dataclass(frozen=True)
class StandFile:
    """One file of a job.

    Args:
        file_id: On the platform.
        path: In the S3 server's URLs.
        size_bytes: Of its object.
        digests: By algorithm, of the very bytes; hashlib's and blake3's own.
    """

    file_id: str
    path: str
    size_bytes: int
    digests: Mapping[str, str]


@dataclass(frozen=True)
class StandJob:
    """One job and what is to become of it.

    Args:
        job_id: On the platform.
        payload: With keys.
        files: With objects of their own.
        end: The status that is right, or "COMPLETED or FAILED"; None: the platform can't or need not know.
        is_told_once: No message comes twice; not promised where the broker loses its data.
    """

    job_id: str
    payload: dict[str, Any] = field(repr=False)
    files: Sequence[StandFile]
    end: str | None = "COMPLETED"
    is_told_once: bool = True

    @property
    def size_bytes(self) -> int:
        """Bytes of all its objects."""
        return sum(file.size_bytes for file in self.files)


@dataclass(frozen=True)
class Applied:
    """One write that the platform applied."""

    job_id: str | None
    file_id: str | None
    kind: str
    value: str


@dataclass
class Verdict:
    """One scenario's line."""

    name: str
    seed: str
    faults_injected: int = 0
    jobs: int = 0
    lost: int = 0
    wrong_digests: int = 0
    double_ends: int = 0
    left_running: int = 0
    duplicate_messages: int = 0
    late_reports: int = 0
    keys_found: int = 0
    passed: bool = False
    seconds: float = 0
    faults: dict[str, int] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        """Nothing bad was found."""
        return not any(getattr(self, name) for name in BAD)

    def append_to(self, path: Path) -> None:
        """Write the line; processes may do so at once."""
        path.parent.mkdir(exist_ok=True)
        with path.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(asdict(self)) + "\n")

    def judge(self, store: PlatformStore, jobs: Iterable[StandJob]) -> None:
        """Look at all that the platform has applied for the jobs."""
        by_job: defaultdict[str | None, list[Applied]] = defaultdict(list)
        by_file: defaultdict[str | None, list[Applied]] = defaultdict(list)
        for note in applied(store):
            by_job[note.job_id].append(note)
            by_file[note.file_id].append(note)
        for job in jobs:
            self.jobs += 1
            own = by_job[job.job_id]
            self._judge_end(job, own)
            self._judge_messages(job, own)
            is_complete = any(note.value == "COMPLETED" for note in own)
            for file in job.files:
                self._judge_digests(job, file, by_file[file.file_id], is_complete=is_complete)

    def judge_ledger(self, job: StandJob, ledger: Mapping[str, str]) -> None:
        """Look at what the ledger of a job that is COMPLETED has counted: all of it, and each file once."""
        if job.end != "COMPLETED":
            return
        counted = {name: int(ledger.get(name, 0)) for name in ("files", "done_files", "hashed_files")}
        if set(counted.values()) != {len(job.files)}:
            self._find("lost", f"the ledger of job {job.job_id} counts {counted} of {len(job.files)}")
        if ledger.get("settled") != ledger.get("batches"):
            self._find("lost", f"job {job.job_id} has settled {ledger.get('settled')} of its batches")

    def search(self, keys: Mapping[str, str], places: Mapping[str, str]) -> None:
        """Look for keys, by their names, in texts, by theirs."""
        for where, text in places.items():
            for name, key in keys.items():
                if key in text:
                    self._find("keys_found", f"{name} stands in {where}")

    def _judge_end(self, job: StandJob, own: Sequence[Applied]) -> None:
        if job.end is None:
            return
        statuses = [note.value for note in own if note.kind == "status"]
        ends = [at for at, status in enumerate(statuses) if status in ENDED]
        if not ends:
            self._find("left_running" if statuses else "lost", f"job {job.job_id} has not ended: {statuses}")
            return
        for status in statuses[ends[0] + 1 :]:
            self._find("double_ends", f"job {job.job_id} was set {status} after its end {statuses[ends[0]]}")
        if statuses[ends[0]] not in job.end.split(" or "):
            errors = [note.value for note in own if note.value.startswith("ERROR: ")][:3]
            self._find(
                "lost", f"job {job.job_id} ended {statuses[ends[0]]} in the place of {job.end}: {errors}"
            )

    def _judge_messages(self, job: StandJob, own: Sequence[Applied]) -> None:
        # A summary holds seconds, so that two of them are never alike.
        texts = Counter(
            ("summary" if _SUMMARY.match(note.value) else note.value, note.file_id)
            for note in own
            if note.kind == "message"
        )
        for (text, file_id), count in texts.items():
            for _ in range(count - 1 if job.is_told_once else 0):
                self._find("duplicate_messages", f"job {job.job_id}, file {file_id}: {text}")
        end = next((at for at, note in enumerate(own) if note.value in ENDED), len(own))
        for note in own[end + 1 :]:
            if note.kind == "message":
                self._find("late_reports", f"job {job.job_id} after its end: {note.value}")

    def _judge_digests(
        self, job: StandJob, file: StandFile, own: Sequence[Applied], *, is_complete: bool
    ) -> None:
        right = {f"{name} {digest}" for name, digest in file.digests.items()}
        stored = {note.value for note in own if note.kind == "hash"}
        told = {
            match[2] for note in own if note.job_id == job.job_id and (match := _DIGEST.match(note.value))
        }
        for wrong in (stored - right) | (told - set(file.digests.values())):
            self._find("wrong_digests", f"file {file.file_id}: {wrong}")
        if is_complete and not (right <= stored and told == set(file.digests.values())):
            self._find(
                "lost", f"file {file.file_id} of job {job.job_id} lacks {right - stored} or its messages"
            )

    def _find(self, what: str, finding: str) -> None:
        setattr(self, what, getattr(self, what) + 1)
        if len(self.findings) < _MOST_FINDINGS:
            self.findings.append(f"{what}: {finding}")


def note_what_is_applied(store: PlatformStore) -> None:
    """Let the platform's database note each write that it applies."""
    store._db.executescript(_NOTES)


def applied(store: PlatformStore) -> list[Applied]:
    """Give all noted writes in their order."""
    rows = store._db.execute("SELECT job_id, file_id, kind, value FROM applied ORDER BY seq")
    return [Applied(*row) for row in rows]
