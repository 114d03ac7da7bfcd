"""Every algorithm by its name: ours, registered ones, and those of packages."""

import hashlib
import signal
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.added_algorithms import (
    CRC32,
    add_package,
    begin_with_ours_alone,
    forget_packages,
    run_cell,
)
from worker.hashing.algorithms import ALGORITHMS, DEFAULT_ALGORITHMS, Algorithm
from worker.hashing.errors import BadAlgorithmError, UnknownAlgorithmError
from worker.hashing.registry import added_names, list_algorithms, register_algorithm, resolve


@pytest.fixture(autouse=True)
def _nothing_added(monkeypatch: pytest.MonkeyPatch) -> None:
    begin_with_ours_alone(monkeypatch)


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a folder for modules and packages; they are looked for anew."""
    known = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)
    forget_packages()
    yield tmp_path
    monkeypatch.undo()
    forget_packages()
    for name in set(sys.modules) - known:
        del sys.modules[name]


def test_algorithms_come_in_the_order_asked_for() -> None:
    """A job's messages list its digests as the job named them."""
    assert [algorithm.name for algorithm in resolve(["sha256", "md5", "blake3"])] == [
        "sha256",
        "md5",
        "blake3",
    ]


def test_a_name_given_twice_counts_once() -> None:
    """Nobody pays for the same digest twice."""
    assert [algorithm.name for algorithm in resolve(["md5", "sha1", "md5"])] == ["md5", "sha1"]


def test_unknown_names_are_all_told_with_the_names_that_exist() -> None:
    """Whoever misspelt two names corrects both at once."""
    register_algorithm("sha3-384", hashlib.sha3_384)

    with pytest.raises(UnknownAlgorithmError) as caught:
        resolve(["md5", "sha-1", "MD5"])

    assert caught.value.names == ("sha-1", "MD5")
    assert caught.value.code == "unknown_algorithm"
    assert all(name in str(caught.value) for name in ["sha-1", "MD5", *ALGORITHMS, "sha3-384"])


def test_no_name_at_all_is_an_error() -> None:
    """A job that asks for no digest is a mistake, and no reason to read an object."""
    with pytest.raises(ValueError, match="No hash algorithm"):
        resolve([])


def test_the_default_is_there() -> None:
    """Who names nothing gets the platform's three and BLAKE3."""
    assert [algorithm.label for algorithm in resolve(DEFAULT_ALGORITHMS)] == [
        "MD5",
        "SHA1",
        "SHA256",
        "BLAKE3",
    ]


def test_a_class_of_three_methods_is_an_algorithm() -> None:
    """Its name in capitals labels its messages, and an empty hasher tells its width."""
    register_algorithm("crc32", run_cell(CRC32)["Crc32"])

    (row,) = resolve(["crc32"])
    hasher = row.new()
    hasher.update(memoryview(b"abc"))

    assert (row.name, row.label, row.digest_bits, row.context) == ("crc32", "CRC32", 32, None)
    assert hasher.digest() == zlib.crc32(b"abc").to_bytes(4, "big")
    assert row.seconds_per_gb > 0


def test_what_is_declared_stands() -> None:
    """Label and speed are the caller's, if given."""
    register_algorithm("sha3-384", hashlib.sha3_384, digest_bits=384, label="Keccak 384", seconds_per_gb=3)

    (row,) = resolve(["sha3-384"])

    assert (row.label, row.digest_bits, row.seconds_per_gb) == ("Keccak 384", 384, 3)


def test_a_name_that_is_registered_again_is_the_later_one() -> None:
    """A cell that is run again defines the class again, perhaps another one."""
    register_algorithm("mine", run_cell(CRC32)["Crc32"])
    register_algorithm("mine", run_cell(CRC32)["Crc32"])
    register_algorithm("mine", hashlib.sha1)

    assert resolve(["mine"])[0].digest_bits == 160
    assert added_names() == ("mine",)


def test_a_refused_registration_leaves_the_earlier_one() -> None:
    """A cell with a mistake takes nothing away."""
    register_algorithm("mine", hashlib.sha1)

    with pytest.raises(BadAlgorithmError):
        register_algorithm("mine", run_cell("class Nothing: pass")["Nothing"])

    assert resolve(["mine"])[0].digest_bits == 160


def test_a_package_offers_an_algorithm_by_an_entry_point(packages: Path) -> None:
    """It is found by name alone, and listed with its package."""
    add_package(packages, "sums", CRC32, crc32="sums:Crc32")

    (row,) = resolve(["crc32"])

    assert row.digest_bits == 32
    assert added_names() == ("crc32",)
    assert list(list_algorithms())[-1] == ("crc32", "sums 1.0", row)


def test_a_package_is_loaded_once_and_only_when_it_is_asked_for(packages: Path) -> None:
    """A worker that nobody asks for an algorithm does not pay for its library."""
    loads = packages / "loads"
    add_package(
        packages, "sums", f"{CRC32}\nwith open({str(loads)!r}, 'a') as f: f.write('x')", c="sums:Crc32"
    )

    assert added_names() == ("c",)
    resolve(["md5"])
    assert not loads.exists()
    resolve(["c"])
    resolve(["c"])

    assert loads.read_text(encoding="utf-8") == "x"


@pytest.mark.parametrize(
    ("source", "value", "told"),
    [
        (
            "raise OSError('no\\nlicence')",
            "sums:X",
            "sums 1.0 can't be loaded (OSError: no licence).",
        ),
        ("raise SystemExit", "sums:X", "sums 1.0 can't be loaded (SystemExit)."),
        ("raise KeyboardInterrupt", "sums:X", "sums 1.0 can't be loaded (KeyboardInterrupt)."),
        ("X = 'two\\nlines'", "sums:X", "'two\\nlines' makes no hashers; give a class"),
        ("", "sums:X", "sums 1.0 can't be loaded (AttributeError: module 'sums' has no attribute 'X')."),
        ("", "no_such_module:X", "sums 1.0 can't be loaded (ModuleNotFoundError: No module named"),
        ("X = 7", "sums:X", "7 makes no hashers; give a class, or a function like hashlib.sha1."),
    ],
)
def test_a_package_that_cannot_be_used_stops_nothing_else(
    packages: Path, source: str, value: str, told: str
) -> None:
    """It is told in one sentence to whoever asks for it, each time; the others work."""
    add_package(packages, "sums", source, broken=value)
    add_package(packages, "good", CRC32, crc32="good:Crc32")

    for _ in range(2):
        with pytest.raises(BadAlgorithmError) as caught:
            resolve(["md5", "broken"])
        assert str(caught.value).startswith(f"The hash algorithm 'broken' can't be used: {told}")
        assert "\n" not in str(caught.value)
    assert [row.name for row in resolve(["md5", "crc32"])] == ["md5", "crc32"]
    usable = {listed.name: isinstance(listed.found, Algorithm) for listed in list_algorithms()}
    assert usable == {**dict.fromkeys(ALGORITHMS, True), "broken": False, "crc32": True}


def test_ctrl_c_while_a_package_is_loaded_ends_the_command(packages: Path) -> None:
    """It is our user's, not the package's, which may be asked for again."""
    source = f"{CRC32}\nimport os\nif not os.path.exists(__file__ + '.again'): "
    source += "open(__file__ + '.again', 'w').close(); import signal; signal.raise_signal(signal.SIGINT)"
    add_package(packages, "sums", source, crc32="sums:Crc32")

    with pytest.raises(KeyboardInterrupt):
        resolve(["crc32"])

    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert resolve(["crc32"])[0].digest_bits == 32


def test_what_a_package_prints_goes_to_standard_error(
    packages: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Standard output has our results, which programs read."""
    add_package(packages, "sums", f"{CRC32}\nprint('welcome')", crc32="sums:Crc32")

    resolve(["crc32"])

    assert capsys.readouterr() == ("", "welcome\n")


def test_a_package_cannot_take_the_name_of_our_own(packages: Path) -> None:
    """The digest that everybody calls md5 is MD5, whatever is installed."""
    add_package(packages, "sums", CRC32, md5="sums:Crc32")

    assert resolve(["md5"]) == (ALGORITHMS["md5"],)
    assert added_names() == ()
    name, origin, found = list(list_algorithms())[-1]
    assert (name, origin) == ("md5", "sums 1.0")
    assert str(found) == "The hash algorithm 'md5' can't be used: it is built in; choose another name."


def test_a_name_that_two_packages_offer_is_refused(packages: Path) -> None:
    """Nobody knows which of them made a digest of that name."""
    add_package(packages, "sums", CRC32, crc32="sums:Crc32")
    add_package(packages, "more_sums", CRC32, crc32="more_sums:Crc32")

    with pytest.raises(BadAlgorithmError, match="offer one each; uninstall all but one") as caught:
        resolve(["crc32"])

    assert "sums 1.0 and " in str(caught.value)


def test_what_a_program_registers_goes_before_a_package(packages: Path) -> None:
    """Whoever tries a new version of an installed algorithm in a notebook gets that one."""
    add_package(packages, "sums", CRC32, mine="sums:Crc32")
    register_algorithm("mine", hashlib.sha1)

    assert resolve(["mine"])[0].digest_bits == 160
    assert added_names() == ("mine",)
    assert [(name, origin) for name, origin, _ in list_algorithms() if name == "mine"] == [
        ("mine", "registered")
    ]
