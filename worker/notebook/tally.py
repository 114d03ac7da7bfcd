"""What a job has not done: each file counts once, however often and by whomever it is missed."""

from collections import Counter
from collections.abc import Iterable


class Tally:
    """The files that a job has yet to read or could not read, and the reports that were refused.

    Files go by the keys of `worker.jobs.plan.FileReference`. With anything missing the job ends FAILED.
    """

    def __init__(self) -> None:
        self._open_listings = 0
        # By how many runs of the pipeline: one that was stopped still misses what another has done since.
        self._unfinished: Counter[str] = Counter()
        self._unread: set[str] = set()
        self._refused_reports = 0

    def __repr__(self) -> str:
        return f"<Tally {self.missing or 'nothing missing'}>"

    def begin_listing(self) -> None:
        """Expect files that are not known yet, until `expect` names them."""
        self._open_listings += 1

    def expect(self, files: Iterable[str]) -> None:
        """End a listing: all of these are to be hashed."""
        self._unfinished.update(files)
        self._open_listings -= 1

    def finish(self, file: str) -> None:
        """Count a file that was expected as done, however it ended."""
        self._unfinished[file] -= 1
        if not self._unfinished[file]:
            del self._unfinished[file]

    def note_unread(self, file: str) -> None:
        """Count a file that could not be read; it stays so."""
        self._unread.add(file)

    def note_refused(self) -> None:
        """Count a report that the platform refused."""
        self._refused_reports += 1

    @property
    def missing(self) -> str:
        """What the job has not done, in words; empty if nothing is known."""
        counts = (
            (self._open_listings, "listing of files", "listings of files", "not finished"),
            (len(self._unread | self._unfinished.keys()), "file", "files", "not read"),
            (self._refused_reports, "report", "reports", "refused"),
        )
        return " and ".join(
            f"1 {one} was {state}" if count == 1 else f"{count} {several} were {state}"
            for count, one, several, state in counts
            if count
        )
