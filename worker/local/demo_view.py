"""What the demo shows on a terminal: progress, digests, messages, the end."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.text import Text

from worker.local import demo


@contextmanager
def progress(console: Console) -> Iterator[demo.Progress]:
    """Draw a bar of files while the block runs; where the console is no terminal, nothing is drawn."""
    columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("Starting broker, S3, platform and worker", total=None)

        def show(hashed_files: int, all_files: int) -> None:
            bar.update(task, description="Hashing", completed=hashed_files, total=all_files)

        yield show


def show_result(console: Console, result: demo.DemoResult) -> None:
    """Print each file with its digests, then the job's messages, then its status."""
    for file in result.files:
        console.print(Text(f"{file['path']}  {file['size']} bytes", "bold"))
        for algorithm, digest in file["hashes"].items() or [("", "no digest, see the messages")]:
            console.print(Text(f"  {algorithm:<10}{digest}"))
    console.print()
    for message in result.messages:
        about = f"file {message['file_id']}" if message["file_id"] else "job"
        console.print(Text(f"{message['type']}  {about:<10}{message['text']}"))
    console.print()
    colour = "green" if result.completed else "red"
    console.print(Text(f"Job {result.job_id}: {result.status}", f"bold {colour}"))
