"""Hash states in cells."""

import ctypes
from collections.abc import Iterator

import pytest

from worker.hashing import contexts
from worker.hashing.algorithms import ALGORITHMS, Algorithm
from worker.hashing.contexts import STATE_BYTES, is_shareable, open_context
from worker.hashing.reference import hash_bytes

_SHAREABLE = [algorithm for algorithm in ALGORITHMS.values() if is_shareable(algorithm)]
_FIRST = bytearray(index % 251 for index in range(1001))
_SECOND = bytearray(index % 251 for index in range(777))


@pytest.fixture
def _nothing_probed() -> Iterator[None]:
    """Forget what was probed before and after."""
    is_shareable.cache_clear()
    yield
    is_shareable.cache_clear()


@pytest.mark.parametrize("algorithm", _SHAREABLE, ids=lambda algorithm: algorithm.name)
def test_another_hasher_goes_on_where_the_first_one_stopped(algorithm: Algorithm) -> None:
    """The cell is the whole state, so any lane may take the next piece."""
    cell = memoryview(bytearray(STATE_BYTES))
    open_context(algorithm, cell, start=True).update(memoryview(_FIRST))
    successor = open_context(algorithm, cell, start=False)
    successor.update(memoryview(_SECOND))

    assert successor.digest() == hash_bytes(bytes(_FIRST + _SECOND), [algorithm.name])[algorithm.name]


@pytest.mark.parametrize("algorithm", _SHAREABLE, ids=lambda algorithm: algorithm.name)
def test_a_state_copied_out_and_back_in_goes_on_to_the_right_digest(algorithm: Algorithm) -> None:
    """A cell's bytes can be kept and later put into another cell, as a checkpoint needs it."""
    cell = memoryview(bytearray(STATE_BYTES))
    hasher = open_context(algorithm, cell, start=True)
    hasher.update(memoryview(_FIRST))
    kept = bytes(cell)
    hasher.update(memoryview(_SECOND))
    hasher.digest()

    restored = open_context(algorithm, memoryview(bytearray(kept)), start=False)
    restored.update(memoryview(_SECOND))

    assert restored.digest() == hash_bytes(bytes(_FIRST + _SECOND), [algorithm.name])[algorithm.name]


@pytest.mark.parametrize("algorithm", _SHAREABLE, ids=lambda algorithm: algorithm.name)
def test_no_context_reaches_beyond_its_cell(algorithm: Algorithm) -> None:
    """The next cell belongs to somebody else."""
    memory = bytearray(b"\xa5" * 4 * STATE_BYTES)
    hasher = open_context(algorithm, memoryview(memory)[:STATE_BYTES], start=True)
    hasher.update(memoryview(_FIRST))
    hasher.digest()

    assert memory[STATE_BYTES:] == b"\xa5" * 3 * STATE_BYTES


def test_an_algorithm_without_a_context_is_not_shareable() -> None:
    """BLAKE3's package exports no state."""
    assert not is_shareable(ALGORITHMS["blake3"])


@pytest.mark.usefixtures("_nothing_probed")
def test_a_python_without_openssls_entry_points_is_not_shareable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing symbol is found out before the first job, not in it; a CRC does not need any."""
    monkeypatch.setattr(contexts, "_openssl", lambda: ctypes.CDLL(None))
    monkeypatch.setattr(ctypes.CDLL, "__getitem__", lambda library, name: getattr(library, "no_such_" + name))

    assert not is_shareable(ALGORITHMS["md5"])
    assert is_shareable(ALGORITHMS["crc32c"])


@pytest.mark.usefixtures("_nothing_probed")
def test_a_python_without_openssl_is_not_shareable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some builds have no _hashlib at all."""

    def no_library() -> ctypes.CDLL:
        raise ModuleNotFoundError("No module named '_hashlib'")

    monkeypatch.setattr(contexts, "_openssl", no_library)

    assert not is_shareable(ALGORITHMS["sha256"])


@pytest.mark.usefixtures("_nothing_probed")
def test_an_algorithm_that_openssl_refuses_is_not_shareable(monkeypatch: pytest.MonkeyPatch) -> None:
    """In FIPS mode MD5_Init returns 0."""
    monkeypatch.setattr(
        contexts, "_openssl", lambda: {"MD5_Init": lambda _: 0, "MD5_Update": None, "MD5_Final": None}
    )

    assert not is_shareable(ALGORITHMS["md5"])
