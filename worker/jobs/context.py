"""What one run works with: the ways to its platform, what the broker keeps of its job, and its strings."""

from dataclasses import dataclass

from worker.jobs.batches import Batches
from worker.jobs.ledger import Ledger
from worker.jobs.progress import Progress, Show
from worker.jobs.stopping import Stop
from worker.jobs.tools import JobTools
from worker.jobs.watch import Watch
from worker.libsafe.client import PlatformClient
from worker.libsafe.names import batch_named
from worker.libsafe.outbox import Outbox
from worker.libsafe.payload import Payload
from worker.libsafe.sender import ReportSender


@dataclass(frozen=True, slots=True)
class Books:
    """What is kept of a job in the broker, for whoever holds the lease that is the outbox's fence.

    Args:
        outbox: The job's, or that of one of its batches.
        ledger: The job's.
        batches: The job's.
    """

    outbox: Outbox
    ledger: Ledger
    batches: Batches

    @property
    def batch(self) -> int:
        """Whose outbox it is; 0 for the job's own."""
        return batch_named(self.outbox.name)[1]


@dataclass(frozen=True, slots=True)
class RunContext:
    """What one run of a job, of its planner or of a batch works with.

    Args:
        client: To the job's platform.
        sender: Of the outbox, not yet sending.
        books: What is kept of the job.
        payload: Of the job.
        tools: What all jobs share.
        stop: Ends the run before its time.
        show: Is shown the job's progress.
    """

    client: PlatformClient
    sender: ReportSender
    books: Books
    payload: Payload
    tools: JobTools
    stop: Stop
    show: Show

    def watch(self) -> Watch:
        """Make the watch over the run."""
        return Watch(self.client, self.sender, self.payload.function_data.job.id, self.stop)

    def progress(self) -> Progress:
        """Make the run's progress."""
        return Progress(self.books.ledger, self.books.batch, self.sender, self.stop, self.show)
