"""`make bench`: every contender on the same server, in rounds; a table, a plot and build/bench.json.

Variables: BENCH_ROUNDS=3, BENCH_CASES=ABCDE, BENCH_SCALE=1 (0.1 for a quick look).
"""

import os
import sys
import time
from collections.abc import Callable, Sequence

from rich.console import Console

from bench import plot, report
from bench.cases import Case, cases, expected_digests, make_files
from bench.contenders import hash_worker
from bench.lines import ChildEndedError, NoAnswerError
from bench.measure import MemoryWatch, Stopwatch
from bench.report import LIMIT, SEED_LOOP, CaseResult
from bench.runs import Contender, Run, child_contender
from bench.stand import BUILD, OBJECTS, Stand, stand
from bench.work import Digests

# A contender may take so many times as long as the seed's loop; a download that hangs is seen by it.
_PATIENCE = 8
_LEAST_SECONDS = 40
_SEED_SECONDS = 300
# A run that took longer has levelled the noise by itself, and is not repeated.
_LONG_SECONDS = 45
_LOG_COLUMNS = 100

_console = Console(width=None if sys.stdout.isatty() else _LOG_COLUMNS)


def contenders() -> tuple[Contender, ...]:
    """Give all contenders, the seed's loop first: how long it takes bounds the others."""
    return (
        child_contender(SEED_LOOP, "seed_loop", can_report=True),
        Contender("hash-worker", hash_worker.opened, can_report=True),
        child_contender("boto3 download_fileobj", "download_fileobj"),
        child_contender("rclone hashsum", "rclone", starts_programs=True),
        child_contender("aws s3 cp, tee", "aws_tee", starts_programs=True, is_slow=True),
        child_contender(LIMIT, "limit", reads=False),
    )


class Bench:
    """All rounds of one case."""

    def __init__(self, stand: Stand, case: Case) -> None:
        self._stand = stand
        self._case = case
        self._patience_seconds: float = _SEED_SECONDS
        self._result = CaseResult(case)

    def run(self, rounds: int) -> CaseResult:
        """Run a round for memory and then those that count, each beginning with another contender."""
        field = [contender for contender in contenders() if self._takes_part(contender)]
        field = self._round(self._case.quarter(), field, self._measure_memory)
        for number in range(rounds):
            first = number % len(field)
            going_on = self._round(self._case, [*field[first:], *field[:first]], self._measure_time)
            field = [contender for contender in field if contender in going_on]
        return self._result

    def _takes_part(self, contender: Contender) -> bool:
        """Tell whether a contender can do the case's work, and note what is missing."""
        notes = self._result.notes
        if contender.missing:
            notes[contender.name] = contender.missing
        elif self._case.is_job and not contender.can_report:
            notes[contender.name] = "can't run a job with its reports"
        elif without := contender.left_out(self._case.algorithms):
            notes[contender.name] = f"without {without}: no program for it"
            return True
        return contender.name not in notes

    def _round(
        self, case: Case, field: Sequence[Contender], measure: Callable[[Contender, Run], bool]
    ) -> list[Contender]:
        """Run each contender once, check its digests, and give those that are to run again."""
        # It also brings the files into the page cache.
        expected = expected_digests(OBJECTS, case)
        going_on = []
        for contender in field:
            _console.print(f"{case.letter}: {contender.name}, {case.size_bytes:,} bytes", style="dim")
            with contender.opened(self._stand, case) as run:
                try:
                    if measure(contender, run):
                        going_on.append(contender)
                except NoAnswerError:
                    self._result.notes[contender.name] = f"timed out after {self._patience_seconds:.0f} s"
                except ChildEndedError as error:
                    self._result.notes[contender.name] = f"failed: {str(error).splitlines()[-1]}"
                else:
                    _check(contender, case, run, expected)
        return going_on

    def _measure_memory(self, contender: Contender, run: Run) -> bool:
        with MemoryWatch(run.pid, with_root=run.with_root) as memory:
            self._go(contender, run)
        self._result.add_peak(contender.name, memory.peak_bytes)
        return True

    def _measure_time(self, contender: Contender, run: Run) -> bool:
        with Stopwatch(run.pid) as watch:
            self._go(contender, run)
        self._result.add(contender.name, watch.cost)
        return watch.cost.seconds < _LONG_SECONDS and not contender.is_slow

    def _go(self, contender: Contender, run: Run) -> None:
        started_seconds = time.monotonic()
        run.go(self._patience_seconds)
        if contender.name == SEED_LOOP:
            seconds = time.monotonic() - started_seconds
            self._patience_seconds = max(_LEAST_SECONDS, _PATIENCE * seconds)


def _check(contender: Contender, case: Case, run: Run, expected: Digests) -> None:
    """Stop the bench at a digest that is wrong or was not made."""
    if not contender.reads:
        return
    digests, without = run.digests(), contender.left_out(case.algorithms).split(", ")
    for key, by_algorithm in expected.items():
        for name, text in by_algorithm.items():
            if name not in without and digests.get(key, {}).get(name) != text:
                raise SystemExit(f"{contender.name} made a wrong {name} of {key}: the bench ends here.")


def main() -> None:
    """Run the bench."""
    rounds = int(os.environ.get("BENCH_ROUNDS", "3"))
    letters = os.environ.get("BENCH_CASES", "ABCDE").upper()
    scale = float(os.environ.get("BENCH_SCALE", "1"))
    chosen = [case for case in cases(scale) if case.letter in letters]
    if rounds < 1 or not chosen or scale <= 0:
        sys.exit("BENCH_ROUNDS is at least 1, BENCH_CASES names some of ABCDE, BENCH_SCALE is above 0.")
    for case in chosen:
        make_files(OBJECTS, case)
        make_files(OBJECTS, case.quarter())
    names = [contender.name for contender in contenders()]
    with stand() as shared:
        about = (
            f"Rounds: {rounds}, medians; {os.cpu_count()} cores; the server ({shared.server.name}) "
            "is on the same machine."
        )
        _console.print(about)
        results = []
        for case in chosen:
            result = Bench(shared, case).run(rounds)
            report.show(_console, result, names)
            results.append(result)
    report.write_json(BUILD / "bench.json", results, names)
    report.write_markdown(BUILD / "bench.md", about, results, names)
    plot.plot_bench(BUILD / "bench.png", about, results, names)
    _console.print(f"{BUILD}/bench.json, {BUILD}/bench.md and {BUILD}/bench.png are written.")


if __name__ == "__main__":
    main()
