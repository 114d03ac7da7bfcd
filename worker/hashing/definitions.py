"""What makes an added algorithm's hashers, packed so that a lane can make them too.

A lane is a process of its own that imports nothing of its parent's. What can be imported goes by its name;
what stands in a notebook's cell or in the program itself (`__main__`), or is a lambda, goes with its code.
Only the parent's own code goes to its own lanes, through the memory that they share and nobody else has.
"""

import os
import pickle
import site
import sys
from collections.abc import Callable, Sequence
from typing import cast

from worker.hashing.algorithms import Hasher

MOST_BYTES = 1024 * 1024
"""The longest definition. A class with a table of its own has some 10 KB; what is longer drags data along."""

_MOST_TEXT_LENGTH = 200
_REMEDY = "put it in a module of its own and import it from there"


def pack(new: Callable[[], Hasher], trial_digests: Sequence[bytes]) -> bytes:
    """Pack what makes hashers, and the digests that its trial gave here.

    Raises:
        ValueError: a sentence's end: why it can't be packed, and what to do.
    """
    import cloudpickle  # noqa: PLC0415 -- 30 ms, which only those pay who add an algorithm

    try:
        code = cast("bytes", cloudpickle.dumps(new))
    except Exception as error:
        raise ValueError(f"it can't be sent to the hashing lanes ({one_line(error)}); {_REMEDY}.") from error
    # A module may have been imported from a folder that was added after the lanes had started.
    folders = [os.path.abspath(folder) for folder in sys.path]  # noqa: PTH100 -- "" too
    definition = pickle.dumps((folders, code, list(trial_digests)))
    if len(definition) > MOST_BYTES:
        raise ValueError(
            f"with all that it refers to it takes {len(definition)} bytes, and {MOST_BYTES} is the most that "
            f"goes to a hashing lane; {_REMEDY}."
        )
    return definition


def unpack(definition: bytes) -> tuple[Callable[[], Hasher], list[bytes]]:
    """Give what makes hashers, in a lane, and the digests that its trial gave where it was packed.

    Raises:
        ImportError: a sentence's end: why it can't be had here, and what to do.
    """
    folders, code, trial_digests = pickle.loads(definition)  # noqa: S301 -- from our parent, whose code we run anyway
    sys.path += [folder for folder in folders if folder not in sys.path]
    try:
        return _loaded(code), trial_digests
    except Exception as error:
        raise ImportError(
            f"a hashing lane can't load it, install its module as a package ({one_line(error)})"
        ) from error


def one_line(error: BaseException) -> str:
    """Tell an error's type and text in one line of 200 characters at most, however it was written."""
    kind = type(error).__name__
    try:
        return shorten(f"{kind}: {error}").removesuffix(":")
    # Somebody else's __str__ may do anything, and there is nothing better to tell.
    except BaseException:  # noqa: BLE001 -- as above
        return shorten(f"{kind}, which can't be told as text")


def shorten(text: str) -> str:
    """Make one line of 200 characters at most of somebody else's text; control characters are left out."""
    line = "".join(filter(str.isprintable, " ".join(text.split())))
    return line if len(line) <= _MOST_TEXT_LENGTH else f"{line[: _MOST_TEXT_LENGTH - 1]}…"


def _loaded(code: bytes) -> Callable[[], Hasher]:
    try:
        return cast("Callable[[], Hasher]", pickle.loads(code))  # noqa: S301 -- as above
    except ModuleNotFoundError:
        # `pip install -e` may leave an import hook of the package's own; a lane is started without (-S).
        site.main()
        return cast("Callable[[], Hasher]", pickle.loads(code))  # noqa: S301 -- as above
