"""The measure of an algorithm's speed, by a clock that the hasher itself turns."""

from collections.abc import Callable

import pytest

from worker.hashing.speed import measure_seconds_per_gb


class _Clock:
    """A clock, and hashers that let so many seconds pass for each byte."""

    def __init__(self, seconds_per_byte: float) -> None:
        self.seconds_per_byte = seconds_per_byte
        self.seconds = 0.0
        self.pieces: list[int] = []

    def update(self, data: memoryview) -> None:
        self.seconds += len(data) * self.seconds_per_byte
        self.pieces.append(len(data))

    def digest(self) -> bytes:
        return b""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], _Clock]:
    """Put a clock in the place of the system's."""

    def make(seconds_per_byte: float) -> _Clock:
        clock = _Clock(seconds_per_byte)
        monkeypatch.setattr("time.perf_counter", lambda: clock.seconds)
        return clock

    return make


@pytest.mark.parametrize("seconds_per_gb", [0.1, 1.0, 1000.0])
def test_the_figure_is_seconds_for_1e9_bytes(clock: Callable[[float], _Clock], seconds_per_gb: float) -> None:
    """Fast or slow."""
    hasher = clock(seconds_per_gb / 1e9)

    assert measure_seconds_per_gb(lambda: hasher, 0.04) == pytest.approx(seconds_per_gb)


def test_a_slow_algorithm_takes_about_twice_the_time_given(clock: Callable[[float], _Clock]) -> None:
    """Pieces begin with 1 KiB and double: the last one takes as long as all before."""
    hasher = clock(1e-6)

    measure_seconds_per_gb(lambda: hasher, 0.04)

    assert hasher.pieces == [1024, 1024, 2048, 4096, 8192, 16384, 32768]


def test_no_piece_is_larger_than_a_mebibyte(clock: Callable[[float], _Clock]) -> None:
    """However fast the hasher, the data stays in the caches."""
    hasher = clock(1e-11)

    measure_seconds_per_gb(lambda: hasher, 0.001)

    assert max(hasher.pieces) == 1 << 20
    assert sum(hasher.pieces) >= 1e8
