"""What a notebook's verbs can raise beside the errors of the floors below, which keep their own types.

NotebookError
└── UnreadableFileError
"""

from worker.hashing.errors import HashingError
from worker.jobs.errors import FileNotHashedError, SelectionError
from worker.libsafe.errors import LibsafeError
from worker.local.errors import LocalError
from worker.settings import SettingsError
from worker.storage.errors import StorageError


class NotebookError(Exception):
    """A verb can't do what it was asked; the text is one sentence and says what to do."""


class UnreadableFileError(NotebookError):
    """A file has no bytes to be read; the job's messages tell it too."""


OUR_ERRORS = (
    NotebookError,
    FileNotHashedError,
    HashingError,
    LibsafeError,
    LocalError,
    SelectionError,
    SettingsError,
    StorageError,
)
"""All whose texts are ours: they say everything to people, and hold no key."""
