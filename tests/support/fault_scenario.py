"""One scenario: jobs, workers, what becomes of them, and the judgement at its end."""

import asyncio
import hashlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

import blake3

from tests.support.fault_judge import StandFile, StandJob, Verdict
from tests.support.fault_stand import ALGORITHMS, S3_SECRET, FaultStand, MiB
from tests.support.fault_watch import Watch, producer
from tests.support.fault_worker import Worker
from worker.local.errors import StartError

LINES = Path("build/faults.jsonl")
LOGS = Path("build/faults-logs")
"""What the workers of failed scenarios have said."""

# With ten scenarios at once a wait that takes 24 s alone took more than 60 s.
_PATIENCE_SECONDS = 120


class Scenario:
    """One scenario: what it has made, and what it finds at its end.

    Attributes:
        stand: Where it runs.
        verdict: Its line.
        random: Seeded by the suite's seed and the scenario's name.
        jobs: All that were enqueued.
        workers: All that were started, in order.
    """

    def __init__(self, stand: FaultStand, name: str, seed: str) -> None:
        self.stand = stand
        self.platform = stand.platform
        self.books = stand.books
        self.random = Random(f"{seed}:{name}")  # noqa: S311 - faults that can be repeated
        self.verdict = Verdict(name, seed)
        self.jobs: list[StandJob] = []
        self.workers: list[Worker] = []
        self._began_seconds = time.monotonic()
        self._faults_before = stand.faults.copy()
        self._folder = stand.directory / f"scenario-{time.monotonic_ns()}"
        self._folder.mkdir()
        self._said: list[str] = []
        self._noted: dict[str, str] = {}
        self._producer = producer(self.platform.broker_url)
        self._watch = Watch(self.platform.broker_url)

    def __repr__(self) -> str:
        return f"<Scenario {self.verdict.name}: {len(self.jobs)} jobs, {len(self.workers)} workers>"

    # What it is made of

    async def worker(
        self, settings: Mapping[str, object] | None = None, *, is_through_proxy: bool = False
    ) -> Worker:
        """Start one more worker, and wait until it takes messages.

        Args:
            settings: Others than the suite's own, by the names of their variables without the prefix.
            is_through_proxy: It reaches the broker through the proxy.
        """
        broker_port = self.stand.broker.port if is_through_proxy else None
        variables = self.stand.variables(settings or {}, broker_port=broker_port)
        worker = Worker(f"worker-{len(self.workers)}", variables, self._folder, self.stand.faults)
        self.workers.append(worker)
        await worker.start()
        return worker

    @asynccontextmanager
    async def supervised(self, count: int, settings: Mapping[str, object]) -> AsyncIterator[None]:
        """Keep so many workers alive while the block runs: one that has ended is followed by another."""

        async def keep_one_alive() -> None:
            while True:
                with suppress(StartError):  # killed before it was ready
                    worker = await self.worker(settings)
                    await worker.wait()

        async with asyncio.TaskGroup() as group:
            keepers = [group.create_task(keep_one_alive()) for _ in range(count)]
            yield
            for keeper in keepers:
                keeper.cancel()

    async def command(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run `hash-worker …` to its end."""
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "worker", *arguments],
            env=self.stand.variables({}),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        self._said.append(done.stdout + done.stderr)
        return done

    async def new_job(self, *sizes_bytes: int, end: str | None = "COMPLETED") -> StandJob:
        """Make a job over new files of these sizes; it is not on the queue yet."""
        return self.job_over([await self.new_file(size) for size in sizes_bytes], end)

    def job_over(
        self, files: Sequence[StandFile], end: str | None = "COMPLETED", *, paths: Sequence[str] = ()
    ) -> StandJob:
        """Make a job over files that there are; it is not on the queue yet.

        Args:
            files: What is to be hashed.
            end: As `StandJob.end`.
            paths: What the payload names in their place.
        """
        file_ids = () if paths else [file.file_id for file in files]
        job_id, payload = self.platform.new_job(file_ids=file_ids, paths=paths)
        payload["api"]["url"] = self.stand.api.url
        job = StandJob(job_id, payload, files, end)
        self.jobs.append(job)
        return job

    async def enqueue(self, job: StandJob, copies: int = 1) -> str:
        """Put a job's payload on the queue as a stranger does, and give the last task's id."""
        return await self.send([job.payload], copies=copies)

    async def send(
        self, arguments: list[Any], task: str = "worker.hash_files", *, copies: int = 1, **options: Any
    ) -> str:
        """Send any message, and give the last one's task id."""
        for _ in range(copies):
            sent = await asyncio.to_thread(self._producer.send_task, task, args=arguments, **options)
        return str(sent.id)

    async def revoke(self, task_id: str) -> None:
        """Terminate a task as Flower does it."""
        self.stand.faults["task revoked"] += 1
        await asyncio.to_thread(self._producer.control.revoke, task_id, terminate=True)

    async def running_tasks(self) -> list[str]:
        """Give the ids of the tasks that the workers run by their own account."""
        active = await asyncio.to_thread(self._producer.control.inspect().active)
        return [task["id"] for tasks in (active or {}).values() for task in tasks]

    async def run(self, *sizes_bytes: int, end: str | None = "COMPLETED") -> StandJob:
        """Make a job and put it on the queue."""
        job = await self.new_job(*sizes_bytes, end=end)
        await self.enqueue(job)
        return job

    async def new_file(self, size_bytes: int) -> StandFile:
        """Put a file on the platform, below the scenario's own folder."""
        name = f"{self.random.getrandbits(64):016x}"
        content = await asyncio.to_thread(pattern, name, size_bytes)
        (self._folder / name).write_bytes(content)
        (file_id,) = await self.platform.add_path(self._folder / name, under=self._folder.name)
        (self._folder / name).unlink()
        path = f"/{self.platform.bucket}/{self._folder.name}/{name}"
        return StandFile(file_id, path, size_bytes, await asyncio.to_thread(digests_of, content))

    @property
    def folder_path(self) -> str:
        """Where its files are in the container."""
        return f"/{self._folder.name}"

    # What can be seen

    def bytes_read(self, job: StandJob) -> int:
        """Give the bytes that the S3 server has sent of a job's objects."""
        return sum(self.stand.s3.body_bytes[file.path] for file in job.files)

    def status(self, job: StandJob) -> str:
        """Give a job's status on the platform."""
        return str(self.platform.job(job.job_id).status)

    def texts(self, job: StandJob) -> list[str]:
        """Give a job's messages on the platform, the oldest first."""
        return [message.message for message in self.platform.messages(job.job_id)]

    async def dead_letters(self) -> dict[str, Any]:
        """Give the dead letters by their ids."""
        letters = await self.stand.redis.hgetall("hash-worker:dead")  # type: ignore[misc]  # redis-py's typing of two kinds of client in one
        return {letter_id.decode(): json.loads(letter) for letter_id, letter in letters.items()}

    @property
    def living(self) -> list[Worker]:
        """Give the workers that have not ended."""
        return [worker for worker in self.workers if worker.pid]

    async def in_mid_object(self, job: StandJob, at_least_bytes: int = MiB) -> None:
        """Wait until so much of a job was read, and make sure that there is more."""
        await until(lambda: self.bytes_read(job) >= at_least_bytes, f"{at_least_bytes} bytes of {job.job_id}")
        assert self.bytes_read(job) < job.size_bytes, "the object is too small or too fast for this scenario"

    async def in_mid_job(
        self, job: StandJob, at_least_files: int = 3, *, within_seconds: float = _PATIENCE_SECONDS
    ) -> None:
        """Wait until so many files of a job were told, and make sure that there are more."""
        await self.counted(
            lambda: self.books.count(job, "done_files"), at_least_files, "files", within_seconds
        )
        assert await self.books.count(job, "done_files") < len(job.files), "the job is too small or too fast"

    async def counted(
        self,
        count: Callable[[], Awaitable[int]],
        at_least: int,
        what: str,
        within_seconds: float = _PATIENCE_SECONDS,
    ) -> None:
        """Wait until a count in the broker has come so far.

        Raises:
            AssertionError: It did not happen in time.
        """
        deadline = time.monotonic() + within_seconds
        while (so_far := await count()) < at_least:
            assert time.monotonic() < deadline, f"{so_far} of {at_least} {what} within {within_seconds:g} s"
            await asyncio.sleep(0.02)

    async def ended(self, *jobs: StandJob, within_seconds: float = _PATIENCE_SECONDS) -> None:
        """Wait for the ends of jobs, all jobs if none is named."""
        waited_for = [job for job in jobs or self.jobs if job.end is not None]

        def are_ended() -> bool:
            while waited_for and self.status(waited_for[-1]) in {"COMPLETED", "FAILED"}:
                waited_for.pop()
            return not waited_for

        await until(are_ended, f"the end of {len(waited_for)} jobs", within_seconds)

    async def queue_is_empty(self, within_seconds: float = _PATIENCE_SECONDS) -> None:
        """Wait until every message is acknowledged."""
        deadline = time.monotonic() + within_seconds
        while await self.books.has_messages():
            assert time.monotonic() < deadline, "messages are left on the queues"
            await asyncio.sleep(0.1)

    async def nothing_is_held(self, within_seconds: float = _PATIENCE_SECONDS) -> None:
        """Wait until the broker has forgotten what the jobs that have ended ran on."""
        ended = [job for job in self.jobs if job.end is not None]
        deadline = time.monotonic() + within_seconds
        while held := await self.books.held_of(ended):
            assert time.monotonic() < deadline, f"the broker still holds {held[:10]}"
            await asyncio.sleep(0.1)

    # Its end

    async def judged(self, within_seconds: float = _PATIENCE_SECONDS) -> None:
        """Wait for the ends of all jobs and an empty queue, then judge."""
        await self.ended(within_seconds=within_seconds)
        await self.queue_is_empty()
        await self.nothing_is_held()
        self._judge()
        for job in self.jobs:
            self.verdict.judge_ledger(job, await self.books.counts(job))
        assert self.verdict.is_good, "\n".join(self.verdict.findings)
        self.verdict.passed = True

    def _judge(self) -> None:
        self.verdict.judge(self.platform.store, self.jobs)
        self.verdict.search(self._keys(), dict(self._places()))

    def _keys(self) -> dict[str, str]:
        keys = {
            "the S3 secret": S3_SECRET,
            "the broker's password": urlsplit(self.platform.broker_url).password or "",
        }
        for job in self.jobs:
            keys |= {f"{name} of a payload": job.payload["api"][name] for name in ("key_user", "key_root")}
        return keys

    def note(self, where: str, text: str) -> None:
        """Have a text searched for keys at the end."""
        self._noted[where] = text

    def _places(self) -> Iterator[tuple[str, str]]:
        yield "what commands print", "\n".join(self._said)
        yield from self._noted.items()
        yield "events and answers of remote control", "\n".join(self._watch.seen)
        for worker in self.workers:
            yield f"the log of {worker.name}", worker.log
        for job in self.jobs:
            yield f"the messages of job {job.job_id}", "\n".join(self.texts(job))

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Scenario"]:
        """Watch while the block runs; then end the workers and leave a line, whatever happened."""
        await self.stand.heal()
        try:
            with self._watch.watching():
                yield self
                # Stopping the watch joins threads, which takes a moment in which the loop stands still.
        finally:
            for worker in self.workers:
                await worker.stop()
            if not self.verdict.jobs:
                self._judge()
            if not self.verdict.passed:
                shutil.copytree(self._folder, LOGS / self.verdict.name.replace("/", "_"))
            verdict = self.verdict
            verdict.faults = dict(self.stand.faults - self._faults_before)
            verdict.faults_injected = sum(verdict.faults.values())
            verdict.seconds = round(time.monotonic() - self._began_seconds, 1)
            verdict.append_to(LINES)


async def until(is_true: Callable[[], bool], what: str, within_seconds: float = _PATIENCE_SECONDS) -> None:
    """Wait for what other processes do.

    Raises:
        AssertionError: It did not happen in time.
    """
    deadline = time.monotonic() + within_seconds
    while not is_true():
        assert time.monotonic() < deadline, f"{what}: not within {within_seconds:g} s"
        await asyncio.sleep(0.02)


def pattern(name: str, size_bytes: int) -> bytes:
    """Make content of each name's own; its period is a prime, so that no two ranges are alike."""
    period = name.encode() + bytes(range(235))  # 251 bytes
    return (period * (size_bytes // len(period) + 1))[:size_bytes]


def digests_of(content: bytes) -> dict[str, str]:
    """Give the digests by the reference implementations."""
    digests = {name: hashlib.new(name, content).hexdigest() for name in ALGORITHMS if name != "blake3"}
    return digests | {"blake3": blake3.blake3(content).hexdigest()}
