"""What can go wrong on the local platform.

LocalError
├── StoreError               the jobs API answers it to its client
│   ├── NoSuchKeyError       cannot: the key opens nothing here
│   ├── NotAllowedError      cannot: this key may not see it
│   ├── NoSuchRecordError    cannot, until somebody adds the record
│   └── ConflictError        cannot: it contradicts what is stored
├── MissingPartError         cannot, until the part is installed
├── UnusablePathError        cannot, until the file or folder is changed
├── StartError               trying again may help: a server did not come up
└── NotHandedInError         trying again may help: the gateway did not take a job
"""


class LocalError(Exception):
    """Something on the local platform failed."""

    code = "local_platform"


class StoreError(LocalError):
    """The store refuses what was asked of it."""

    code = "store"


class NoSuchKeyError(StoreError):
    """The request carries no key, or one that the store does not know."""

    code = "no_such_key"


class NotAllowedError(StoreError):
    """The key is known and may not see this record."""

    code = "not_allowed"


class NoSuchRecordError(StoreError):
    """A record that the request names does not exist."""

    code = "no_such_record"


class ConflictError(StoreError):
    """The request contradicts what is stored, such as a second, different end of a job."""

    code = "conflict"


class MissingPartError(LocalError):
    """A program that the local platform starts is not installed."""

    code = "missing_part"


class UnusablePathError(LocalError):
    """A file or folder cannot serve: its name or its kind does not fit."""

    code = "unusable_path"


class StartError(LocalError):
    """A server ended, stayed silent, or could not listen, before it was ready."""

    code = "not_started"


class NotHandedInError(LocalError):
    """The gateway did not take a job."""

    code = "not_handed_in"
