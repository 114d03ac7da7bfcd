"""One stand for each process of the suite, one scenario for each test."""

import os
import secrets
import shutil
from collections.abc import AsyncIterator, Generator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.fault_scenario import LINES, LOGS, Scenario
from tests.support.fault_stand import FaultStand, open_stand

_PASSED = pytest.StashKey[bool]()


def pytest_configure(config: pytest.Config) -> None:
    """Choose the seed once for all processes, and begin with no lines."""
    config.addinivalue_line("markers", "slow: waits for a minute or longer, so it is begun first")
    if not hasattr(config, "workerinput"):
        os.environ.setdefault("FAULT_SEED", str(secrets.randbelow(10**6)))
        LINES.unlink(missing_ok=True)
        shutil.rmtree(LOGS, ignore_errors=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep how a test went, for its line."""
    report = yield
    if report.when == "call":
        item.stash[_PASSED] = report.passed
    return report


def pytest_report_header() -> str:
    """Tell the seed."""
    return f"random faults: FAULT_SEED={os.environ['FAULT_SEED']} repeats them"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the slow ones, lest one of them be the last and alone; none of them hangs."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    for item in items:
        item.add_marker(pytest.mark.timeout(480 + 60 * _minutes()))


@pytest.fixture(scope="session")
def minutes() -> float:
    """Give the length that was asked for; 0 is the short run."""
    return _minutes()


def _minutes() -> float:
    return float(os.environ.get("FAULT_MINUTES") or 0)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stand(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FaultStand]:
    """Run the stand."""
    async with open_stand(Path(tmp_path_factory.mktemp("stand"))) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def scenario(stand: FaultStand, request: pytest.FixtureRequest) -> AsyncIterator[Scenario]:
    """Run one scenario, which leaves its line however it ends."""
    async with Scenario(stand, request.node.name, os.environ["FAULT_SEED"]).running() as running:
        yield running
        running.verdict.passed &= request.node.stash.get(_PASSED, False)
