"""Orders and answers as bytes."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.hashing import wire
from worker.hashing.algorithms import ALGORITHMS

_REFS = st.builds(
    wire.HasherRef,
    algorithm=st.sampled_from(sorted(ALGORITHMS)),
    number=st.integers(0, 2**64 - 1),
    cell=st.none() | st.integers(0, 2**31 - 1),
    definition=st.none() | st.tuples(st.integers(0, 2**64 - 1), st.integers(1, 2**32 - 1)),
)
_PIECES = st.tuples(st.integers(0, 2**32 - 1), st.integers(1, 2**32 - 1))
_ORDERS = st.builds(
    wire.Order,
    hashers=st.lists(_REFS, max_size=20).map(tuple),
    pieces=st.lists(_PIECES, max_size=20).map(tuple),
    start=st.booleans(),
    end=st.booleans(),
    turn=st.integers(0, 255),
)
_ANSWERS = st.builds(wire.Answer, digests=st.binary(max_size=1000), failure=st.none()) | st.builds(
    wire.Answer,
    digests=st.just(b""),
    failure=st.builds(
        wire.Failure,
        algorithm=st.sampled_from(sorted(ALGORITHMS)),
        reason=st.text(st.characters(codec="utf-8"), max_size=100),
    ),
)


@given(st.lists(_ORDERS, max_size=5))
def test_orders_arrive_as_they_were_sent(orders: list[wire.Order]) -> None:
    """Nothing is lost on the way to a lane, and after the last order comes the end."""
    stream = io.BytesIO(b"".join(map(wire.encode_order, orders)))

    assert [wire.read_order(stream) for _ in orders] == orders
    assert wire.read_order(stream) is None


@given(_ORDERS, st.data())
def test_an_order_cut_short_is_the_end(order: wire.Order, data: st.DataObject) -> None:
    """A parent that dies while it sends leaves no half order behind that a lane would perform."""
    encoded = wire.encode_order(order)
    length = data.draw(st.integers(0, len(encoded) - 1))

    assert wire.read_order(io.BytesIO(encoded[:length])) is None


@given(st.lists(_ANSWERS, max_size=5), st.integers(1, 50))
def test_answers_arrive_as_they_were_sent_however_they_are_cut(answers: list[wire.Answer], size: int) -> None:
    """A socket may give any number of bytes at a time."""
    encoded = b"".join(map(wire.encode_answer, answers))
    reader = wire.AnswerReader()

    received = [
        answer
        for start in range(0, len(encoded), size)
        for answer in reader.feed(encoded[start : start + size])
    ]

    assert received == answers


def test_a_very_long_reason_is_cut() -> None:
    """A library's message of a megabyte does not break the frame."""
    failure = wire.Failure("md5", "\N{SNOWMAN}" * 100_000)
    (answer,) = wire.AnswerReader().feed(wire.encode_answer(wire.Answer(b"", failure)))

    assert answer.failure is not None
    assert answer.failure.algorithm == "md5"
    assert set(answer.failure.reason) == {"\N{SNOWMAN}"}


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_name_of_our_own_fits(name: str) -> None:
    """A name that is cut on the way would be another algorithm, or none."""
    order = wire.Order((wire.HasherRef(name, 0, None),), (), start=True, end=True)

    assert wire.read_order(io.BytesIO(wire.encode_order(order))) == order
