"""The contenders, and one run of one of them: ready, go, done."""

import importlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass

from bench.cases import Case
from bench.lines import LineProcess
from bench.server import BUCKET
from bench.stand import Stand
from bench.work import Digests, Work


@dataclass(frozen=True, slots=True)
class Run:
    """A contender that is ready.

    Args:
        pid: The root of its processes.
        go: Do the work, within so many seconds.
        digests: What it made of it; asked for afterwards.
        with_root: Whether the root is part of the contender, and not only what starts its programs.
    """

    pid: int
    go: Callable[[float], object]
    digests: Callable[[], Digests]
    with_root: bool = True


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to hash the objects.

    Args:
        name: In table, plot and results.
        opened: Makes it ready for a case.
        missing: What is not installed; empty if all is there.
        left_out: The algorithms of a case that it can't calculate, named.
        can_report: Whether it can run a whole job.
        reads: Whether it reads the objects, so that its digests can be checked.
        is_slow: Whether one timed run is enough: its noise is small beside its distance.
    """

    name: str
    opened: Callable[[Stand, Case], AbstractContextManager[Run]]
    missing: str = ""
    left_out: Callable[[tuple[str, ...]], str] = lambda _: ""
    can_report: bool = False
    reads: bool = True
    is_slow: bool = False


def child_contender(name: str, module: str, *, starts_programs: bool = False, **more: bool) -> Contender:
    """Give the contender that a module of `bench.contenders` holds; it runs in a process of its own."""
    found = importlib.import_module(f"bench.contenders.{module}")

    @contextmanager
    def opened(stand: Stand, case: Case) -> Iterator[Run]:
        payload = stand.new_payload(case) if case.is_job else None
        work = Work(stand.server.endpoint_url, BUCKET, case.keys, case.size_bytes, case.algorithms, payload)
        with LineProcess("bench.child", module, log_path=stand.directory / f"{module}.log") as child:
            child.ask(asdict(work))
            yield Run(
                child.pid,
                go=lambda seconds: child.ask("go", seconds),
                digests=lambda: child.ask("digests"),
                with_root=not starts_programs,
            )

    left_out = getattr(found, "left_out", lambda _: "")
    return Contender(name, opened, missing=found.missing(), left_out=left_out, **more)
