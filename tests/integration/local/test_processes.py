import asyncio
import os
import select
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from worker.local.errors import MissingPartError, StartError
from worker.local.processes import ChildProcess, free_port

Children = Callable[[], set[int]]

SLEEPER = "print('up', flush=True); import time; time.sleep(600)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SLEEPER
# A child of the child that would outlive it, and says who it is.
WITH_GRANDCHILD = (
    "import subprocess, sys;"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
    "print(child.pid, flush=True);" + SLEEPER
)


def python(code: str, log_path: Path) -> ChildProcess:
    """Make a child that runs a few lines of Python."""
    return ChildProcess([sys.executable, "-c", code], log_path=log_path)


def says_up(child: ChildProcess) -> Callable[[], Awaitable[bool]]:
    """Take a child for ready once it has printed "up"."""

    async def ready() -> bool:
        return "up" in child.log_tail()

    return ready


def wait_for_end(pid: int) -> None:
    """Wait until a process that is not ours to reap has ended; at most 10 s."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    assert select.select([handle], [], [], 10)[0], f"process {pid} still lives"
    os.close(handle)


async def test_a_child_is_started_when_it_is_ready_and_ends_when_stopped(
    tmp_path: Path, children: Children
) -> None:
    """Between start and stop the child runs; stopping twice is fine."""
    child = python(SLEEPER, tmp_path / "log")
    assert (child.pid, child.exit_status) == (None, None)

    await child.start(says_up(child))
    running = children()
    assert running == {child.pid}
    assert child.log_tail() == "up"
    assert repr(child.pid) in repr(child)

    await child.stop()
    await child.stop()
    assert (child.pid, child.exit_status) == (None, -signal.SIGTERM)
    assert repr(child).endswith("ended with status -15>")


async def test_stopping_what_never_began_is_fine(tmp_path: Path) -> None:
    """Tearing down needs no questions."""
    child = python(SLEEPER, tmp_path / "log")

    await child.stop()

    assert repr(child).endswith("not started>")
    assert child.log_tail() == ""


async def test_a_child_that_will_not_end_is_killed_after_its_grace(
    tmp_path: Path, children: Children
) -> None:
    """SIGTERM may be refused, SIGKILL not."""
    child = python(STUBBORN, tmp_path / "log")
    await child.start(says_up(child))

    await child.stop(grace_seconds=0.05)

    assert child.exit_status == -signal.SIGKILL


async def test_a_stop_that_is_cancelled_kills(tmp_path: Path, children: Children) -> None:
    """Whoever has no time to wait leaves no process either."""
    child = python(STUBBORN, tmp_path / "log")
    await child.start(says_up(child))

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(child.stop(grace_seconds=600), 0.05)

    assert await child.wait() == -signal.SIGKILL


async def test_a_childs_own_children_end_with_it(tmp_path: Path, children: Children) -> None:
    """The whole group goes, even one that its leader forgot."""
    child = python(WITH_GRANDCHILD, tmp_path / "log")
    await child.start(says_up(child))
    grandchild = int(child.log_tail().splitlines()[0])

    await child.stop()

    wait_for_end(grandchild)


async def test_a_child_that_ends_before_it_is_ready_is_an_error_with_its_last_lines(
    tmp_path: Path, children: Children
) -> None:
    """The reason is in the log, so it is in the error."""
    child = python("print('first'); raise SystemExit('no such port')", tmp_path / "log")

    with pytest.raises(StartError, match=r"(?s)ended with status 1.*no such port"):
        await child.start(says_up(child))


async def test_a_child_that_is_never_ready_is_an_error_and_is_ended(
    tmp_path: Path, children: Children
) -> None:
    """Waiting is bounded."""
    child = python(SLEEPER.replace("up", "down"), tmp_path / "log")

    with pytest.raises(StartError, match=r"not ready within 0\.1 s"):
        await child.start(says_up(child), timeout_seconds=0.1)

    assert child.exit_status == -signal.SIGKILL


async def test_a_start_that_is_cancelled_ends_the_child(tmp_path: Path, children: Children) -> None:
    """Nobody holds the child yet, so the start itself must end it."""
    child = python(SLEEPER, tmp_path / "log")
    asked = asyncio.Event()

    async def never() -> bool:
        asked.set()
        return await asyncio.Event().wait()

    starting = asyncio.create_task(child.start(never))
    await asked.wait()
    starting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await starting
    assert child.exit_status == -signal.SIGKILL


async def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    """The error says which program and why."""
    child = ChildProcess([tmp_path / "no-such-program"], log_path=tmp_path / "log")

    with pytest.raises(MissingPartError, match="no-such-program cannot be run: No such file"):
        await child.start()


async def test_a_secret_goes_through_standard_input(tmp_path: Path) -> None:
    """What is written there arrives whole and then ends."""
    code = "import sys; print(len(sys.stdin.read()))"
    child = ChildProcess([sys.executable, "-c", code], log_path=tmp_path / "log", stdin=b"x" * 60_000)
    await child.start()

    assert await child.wait() == 0
    assert child.log_tail() == "60000"
    await child.stop()


async def test_the_environment_is_the_one_given(tmp_path: Path) -> None:
    """None of this process's own variables slip in."""
    code = "import os; print(os.environ.get('HOME'), os.environ['GIVEN'])"
    child = ChildProcess([sys.executable, "-c", code], log_path=tmp_path / "log", env={"GIVEN": "1"})
    await child.start()
    await child.wait()
    await child.stop()

    assert child.log_tail() == "None 1"


async def test_the_tail_of_a_log_is_short(tmp_path: Path) -> None:
    """However long the log, a few lines of it are told."""
    child = python("for i in range(100_000): print(i)", tmp_path / "log")
    await child.start()
    await child.wait()
    await child.stop()

    assert child.log_tail(2) == "99998\n99999"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
async def test_children_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    """SIGKILL gives the parent no chance to tidy up: the kernel does it."""
    code = (
        "import asyncio, pathlib, sys\n"
        "from worker.local.processes import ChildProcess\n"
        "async def main():\n"
        f"    child = ChildProcess([sys.executable, '-c', {SLEEPER!r}], log_path=pathlib.Path(sys.argv[1]))\n"
        "    await child.start()\n"
        "    print(child.pid, flush=True)\n"
        "    await asyncio.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen(  # noqa: ASYNC220 - nothing else runs in this loop; the code is ours
        [sys.executable, "-c", code, str(tmp_path / "log")], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child_pid = int(parent.stdout.readline())
        parent.kill()

    wait_for_end(child_pid)


def test_a_free_port_can_be_listened_on() -> None:
    """It is free at the moment of asking."""
    assert 1024 < free_port() < 65536
