"""What the platform has, by id, for plain functions.

They name no request: they go to that of the innermost block, else to the one that was made or begun last.
"""

import re
from enum import StrEnum
from typing import Any, Literal, overload

from worker.hashing.algorithms import Algorithm
from worker.hashing.errors import HashingError
from worker.hashing.registry import resolve
from worker.jobs import messages
from worker.libsafe import models
from worker.libsafe.json_text import flattened, format_json_item
from worker.libsafe.reports import HashReport, MessageReport
from worker.notebook.driver import Driver
from worker.notebook.errors import NotebookError

Id = str | int
"""The platform's ids are texts; a cell may well have one as the number that it looks like."""

_HEXADECIMAL = re.compile(r"(?:[0-9a-f]{2})+", re.IGNORECASE | re.ASCII)


class File:
    """The platform's files."""

    @staticmethod
    def get(file_id: Id) -> models.FileRecord:
        """Fetch a file's record."""
        driver = Driver.current()
        return driver.ask(driver.client.file(str(file_id)))

    @overload
    @staticmethod
    def get_metadata(file_id: Id, as_list: Literal[True] = ...) -> list[models.MetadataItem] | None: ...

    @overload
    @staticmethod
    def get_metadata(file_id: Id, as_list: Literal[False]) -> dict[str, Any] | None: ...

    @staticmethod
    def get_metadata(
        file_id: Id,
        as_list: bool = True,  # noqa: FBT001, FBT002 - as the platform's library has it
    ) -> list[models.MetadataItem] | dict[str, Any] | None:
        """Fetch a file's metadata.

        Args:
            file_id: The file.
            as_list: True: the items, each with `iecode` and `value`. False: a dictionary from iecode to
                value, or to a list of values where an iecode comes several times.

        Returns:
            The metadata; None if it has none, or if there is no such file.
        """
        driver = Driver.current()
        items = driver.ask(driver.client.metadata(str(file_id)))
        if items is None:
            return None
        return list(items) if as_list else flattened(items)

    @staticmethod
    def get_hashes(file_id: Id) -> dict[str, str]:
        """Fetch the hashes that the platform keeps of a file, by its names of the algorithms."""
        driver = Driver.current()
        return {
            stored.algorithm: stored.hex_digest for stored in driver.ask(driver.client.hashes(str(file_id)))
        }

    @staticmethod
    def set_hash(file_id: Id, algorithm: str, hex_digest: str) -> bool:
        """Store a hash of a file.

        Args:
            file_id: The file.
            algorithm: Our name of it, or any other name in the settings' `api.hash_names`.
            hex_digest: In hexadecimal digits, with nothing between them: as many as the algorithm's digests
                have, where we know it.

        Returns:
            Whether it is stored; where the platform has no name for the algorithm, a message of the job tells
            it instead.

        Raises:
            NotebookError: The digest is none, or none of that algorithm.
        """
        file_id = str(file_id)
        known = _known(algorithm)
        digits = _digits(file_id, algorithm, hex_digest, known)
        driver = Driver.current()
        is_stored = driver.connections.platforms.policy().hash_name(algorithm) is not None
        if is_stored:
            driver.ask(driver.job.put(HashReport(file_id, algorithm, digits)))
        else:
            text = messages.digest_message(known.label if known else algorithm.upper(), digits)
            driver.ask(driver.job.put(MessageReport(text, file_id=file_id)))
        return is_stored


class Container:
    """The platform's data containers."""

    @staticmethod
    def get(container_id: Id) -> models.Container:
        """Fetch a container: its name, and which storage has its objects."""
        driver = Driver.current()
        return driver.ask(driver.client.container(str(container_id)))


class Job:
    """The platform's jobs."""

    @staticmethod
    def get(job_id: Id) -> models.Job:
        """Fetch a job with its status."""
        driver = Driver.current()
        return driver.ask(driver.client.job(str(job_id)))

    @staticmethod
    def get_messages(job_id: Id) -> list[models.JobMessage]:
        """Fetch a job's messages, the oldest first."""
        driver = Driver.current()
        return list(driver.ask(driver.client.messages(str(job_id))))


class JobMessageType(StrEnum):
    """How grave a message is; what the platform has no type for goes as INFO, with its name in the text."""

    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


class JobMessage:
    """The messages of jobs; `Request.log` writes them and `Job.get_messages` reads them."""

    JobMessageType = JobMessageType


class Util:
    """What is of use with all of them."""

    format_json_item = staticmethod(format_json_item)


def _known(algorithm: str) -> Algorithm | None:
    if not isinstance(algorithm, str):
        raise NotebookError(f"A hash algorithm has to be named by a text, not by {algorithm!r}.")
    try:
        return resolve([algorithm])[0]
    except HashingError:
        return None


def _digits(file_id: str, algorithm: str, hex_digest: str, known: Algorithm | None) -> str:
    """Give a digest's digits in lower case."""
    if not isinstance(hex_digest, str) or not _HEXADECIMAL.fullmatch(hex_digest):
        raise NotebookError(f"The {algorithm} hash of file {file_id} has to be a text of hexadecimal digits.")
    if known and len(hex_digest) != 2 * known.digest_bytes:
        raise NotebookError(
            f"The {algorithm} hash of file {file_id} has to have {2 * known.digest_bytes} hexadecimal digits,"
            f" not {len(hex_digest)}."
        )
    return hex_digest.lower()
