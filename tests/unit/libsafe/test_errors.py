import inspect
import re

from worker.libsafe import errors
from worker.libsafe.errors import LibsafeError, PermanentLibsafeError, TransientLibsafeError


def _leaves() -> list[type[LibsafeError]]:
    branches = (LibsafeError, TransientLibsafeError, PermanentLibsafeError)
    classes = (value for value in vars(errors).values() if inspect.isclass(value))
    return [value for value in classes if issubclass(value, LibsafeError) and value not in branches]


def test_the_drawn_tree_is_the_tree() -> None:
    """The module's docstring shows each error with its code, under what the reader must do."""
    drawn = dict(re.findall(r"(\w+Error) +(\w+)$", errors.__doc__ or "", re.MULTILINE))

    assert {error.__name__: error.code for error in _leaves()} == drawn


def test_each_error_either_may_pass_or_lasts() -> None:
    """Nobody has to guess whether to try again."""
    for error in _leaves():
        assert issubclass(error, TransientLibsafeError) != issubclass(error, PermanentLibsafeError)
