"""What can go wrong in a job.

FileNotHashedError      one file has no digests; the others go on

The errors of the floors below keep their own types and codes.
"""


class FileNotHashedError(Exception):
    """One file could not be hashed; the code is counted in the job's last message."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
