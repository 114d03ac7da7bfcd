"""Every algorithm that there is: ours, those that a program registers, and those of installed packages.

A package offers one by an entry point in the group `worker.algorithms`: its name is the algorithm's, its
value what makes a hasher. It is loaded when it is first asked for. One that can't be used is told to whoever
asks for it, and stops nothing else.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import NamedTuple

from worker.hashing.added_code import contained
from worker.hashing.algorithms import ALGORITHMS, Algorithm, Hasher
from worker.hashing.custom import make_algorithm
from worker.hashing.errors import BadAlgorithmError, UnknownAlgorithmError

GROUP = "worker.algorithms"
BUILT_IN = "built in"

_registered: dict[str, Algorithm] = {}


class Listed(NamedTuple):
    """One algorithm as it is listed.

    Attributes:
        name: how it is called.
        origin: where it comes from: `BUILT_IN`, "registered", or a package and its version.
        found: its row, or why it can't be used.
    """

    name: str
    origin: str
    found: Algorithm | BadAlgorithmError


def register_algorithm(
    name: str,
    new: Callable[[], Hasher],
    *,
    digest_bits: int | None = None,
    label: str | None = None,
    seconds_per_gb: float | None = None,
) -> None:
    """Add an algorithm to this program, in the place of an earlier one that was registered by this name.

        class Crc32:
            def __init__(self): self.value = 0
            def update(self, data): self.value = zlib.crc32(data, self.value)
            def digest(self): return self.value.to_bytes(4, "big")

        register_algorithm("crc32", Crc32)
        register_algorithm("sha3-384", hashlib.sha3_384)

    Sessions that are open go on with the earlier one. The algorithm stays in one lane for a whole object,
    which is read again from its first byte if that lane dies. Each lane tries it once more, and refuses it if
    its digests are others there: they may depend on nothing of a process, such as `hash()`.

    Args:
        name: how payloads, settings and the command line call it: 1 to 32 of a-z, 0-9, hyphen, underscore and
            dot. It is also the platform's name of the hash, unless the settings (api.hash_names) say another.
        new: makes a hasher that has seen no byte; a class whose constructor needs nothing, or any function
            like those of hashlib. Its `update` is given bytes that are cut anywhere, can't be changed, and
            are others as soon as it has returned.
        digest_bits: the width of its digest; where it is missing, that of no bytes tells.
        label: how messages to people call it; the name in capitals where it is missing.
        seconds_per_gb: CPU seconds for 1e9 bytes, by which the lanes' work is shared out; where it is
            missing, measured for 2 ms.

    Raises:
        BadAlgorithmError: it is built in, the name can't be used, or a first try over a few bytes went wrong.
    """
    _registered[name] = make_algorithm(
        name, new, digest_bits=digest_bits, label=label, seconds_per_gb=seconds_per_gb
    )


def resolve(names: Iterable[str]) -> tuple[Algorithm, ...]:
    """Turn names into rows, in the order asked for; a name given twice counts once.

    Raises:
        UnknownAlgorithmError: names every name that nobody knows.
        BadAlgorithmError: a package offers one of them that can't be used.
        ValueError: no name was given.
    """
    wanted = tuple(dict.fromkeys(names))
    if not wanted:
        raise ValueError("No hash algorithm was asked for; name at least one.")
    if unknown := [name for name in wanted if name not in ALGORITHMS and name not in added_names()]:
        raise UnknownAlgorithmError(unknown, [*ALGORITHMS, *added_names()])
    return tuple(_row(name) for name in wanted)


def added_names() -> tuple[str, ...]:
    """Name all algorithms that are not built in; none of a package's is loaded for that."""
    return tuple(dict.fromkeys([*_registered, *(name for name in _offers() if name not in ALGORITHMS)]))


def list_algorithms() -> Iterator[Listed]:
    """Give every algorithm, ours first; those of packages are loaded, and may turn out to be unusable."""
    for name, row in ALGORITHMS.items():
        yield Listed(name, BUILT_IN, row)
    for name, row in _registered.items():
        yield Listed(name, "registered", row)
    for name, offers in _offers().items():
        if name not in _registered:
            offered = _offered(name)
            found = BadAlgorithmError(name, offered) if isinstance(offered, str) else offered
            yield Listed(name, _packages_of(offers), found)


def _row(name: str) -> Algorithm:
    row = ALGORITHMS.get(name) or _registered.get(name) or _offered(name)
    if isinstance(row, str):
        raise BadAlgorithmError(name, row)
    return row


@cache
def _offers() -> Mapping[str, list[EntryPoint]]:
    offers: dict[str, list[EntryPoint]] = {}
    for entry_point in entry_points(group=GROUP):
        offers.setdefault(entry_point.name, []).append(entry_point)
    return offers


@cache
def _offered(name: str) -> Algorithm | str:
    """Load what packages offer by this name, once; give why not if it can't be used."""
    offers = _offers()[name]
    packages = _packages_of(offers)
    if len(offers) > 1:
        return f"{packages} offer one each; uninstall all but one."
    try:
        with contained(f"{packages} can't be loaded"):
            new = offers[0].load()
        return make_algorithm(name, new)
    except ValueError as error:
        return str(error)
    except BadAlgorithmError as error:
        return error.reason


def _packages_of(offers: Iterable[EntryPoint]) -> str:
    packages = [offer.dist for offer in offers]
    return " and ".join(f"{package.name} {package.version}" for package in packages if package)
