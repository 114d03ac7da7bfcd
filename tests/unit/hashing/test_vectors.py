"""Every algorithm against digests that others have published; vectors.json says where each comes from."""

import json
from pathlib import Path
from typing import Any

import pytest

from worker.hashing.algorithms import ALGORITHMS, Hasher
from worker.hashing.contexts import STATE_BYTES, is_shareable, open_context
from worker.hashing.reference import hash_bytes

_DOCUMENT = json.loads(Path(__file__).with_name("vectors.json").read_text())
_VECTORS: list[dict[str, Any]] = _DOCUMENT["vectors"]


def _input(description: dict[str, Any]) -> bytearray:
    match description:
        case {"text": text}:
            return bytearray(str(text), "ascii")
        case {"hex": text}:
            return bytearray.fromhex(text)
        case {"repeat": text, "count": count}:
            return bytearray.fromhex(text) * int(count)
        case {"period_251": size}:
            return bytearray(index % 251 for index in range(size))
        case {"xxhash_sanity": size}:
            return _xxhash_sanity_buffer(size)
        case _:
            raise ValueError(f"vectors.json has an input that nobody explained: {description}")


def _xxhash_sanity_buffer(size: int) -> bytearray:
    generator = 2654435761
    buffer = bytearray()
    for _ in range(size):
        buffer.append(generator >> 56)
        generator = generator * 11400714785074694797 % 2**64
    return buffer


def _digest_in_pieces(hasher: Hasher, data: bytearray) -> str:
    for start in range(0, len(data), 1000):
        hasher.update(memoryview(data)[start : start + 1000])
    return hasher.digest().hex()


def _ids(vector: dict[str, Any]) -> str:
    return f"{vector['algorithm']} {str(vector['input'])[:40]}"


_SHAREABLE = [vector for vector in _VECTORS if is_shareable(ALGORITHMS[vector["algorithm"]])]
_each_vector = pytest.mark.parametrize("vector", _VECTORS, ids=_ids)


def test_every_algorithm_has_vectors_and_every_vector_an_algorithm() -> None:
    """A row of the registry without published digests would go untested, and so would a misspelt vector."""
    assert {vector["algorithm"] for vector in _VECTORS} == set(ALGORITHMS)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_has_the_empty_input_among_its_vectors(name: str) -> None:
    """An archive holds empty files, too."""
    assert any(vector["algorithm"] == name and not _input(vector["input"]) for vector in _VECTORS)


@_each_vector
def test_a_hasher_of_its_own_gives_the_published_digest(vector: dict[str, Any]) -> None:
    """The hasher that lives in a lane is right, however its bytes are cut."""
    hasher = ALGORITHMS[vector["algorithm"]].new()

    assert _digest_in_pieces(hasher, _input(vector["input"])) == vector["digest"]


@pytest.mark.parametrize("vector", _SHAREABLE, ids=_ids)
def test_a_context_in_a_cell_gives_the_published_digest(vector: dict[str, Any]) -> None:
    """A state that lives in shared memory is right as well, though the cell was used before."""
    cell = memoryview(bytearray(b"\xff" * STATE_BYTES))
    hasher = open_context(ALGORITHMS[vector["algorithm"]], cell, start=True)

    assert _digest_in_pieces(hasher, _input(vector["input"])) == vector["digest"]


@_each_vector
def test_the_reference_gives_the_published_digest(vector: dict[str, Any]) -> None:
    """The oracle of all other tests is right itself."""
    name = vector["algorithm"]

    assert hash_bytes(bytes(_input(vector["input"])), [name])[name].hex() == vector["digest"]


@_each_vector
def test_every_digest_is_as_wide_as_its_row_says(vector: dict[str, Any]) -> None:
    """The width in the registry is what cuts the answers of a lane into digests."""
    assert len(vector["digest"]) * 4 == ALGORITHMS[vector["algorithm"]].digest_bits
