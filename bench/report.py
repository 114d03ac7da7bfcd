"""The figures of a run, as a table on the screen, in Markdown and in JSON."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from bench.cases import Case
from bench.measure import Cost

SEED_LOOP = "seed's loop"
LIMIT = "limit: hashing from memory"

_GB = 1e9
_MB = 1e6
_HEADINGS = (
    "contender",
    "runs",
    "GB/s",
    "CPU s/GB",
    "files/s",
    "peak MB",
    "x seed's loop",
    "of the limit",
)


@dataclass(frozen=True, slots=True)
class Figures:
    """One contender in one case; None where a figure has no meaning. The fields are those of bench.json."""

    case: str
    contender: str
    gb_per_s: float | None
    cpu_s_per_gb: float | None
    files_per_s: float | None
    peak_rss_mb: float | None
    times_seed_loop: float | None
    share_of_limit: float | None


class CaseResult:
    """What was measured in one case.

    Attributes:
        case: The case.
        notes: Contender and what to know of it there: missing, timed out, algorithms left out.
    """

    def __init__(self, case: Case) -> None:
        self.case = case
        self.notes: dict[str, str] = {}
        self._costs: dict[str, list[Cost]] = {}
        self._peak_bytes: dict[str, int] = {}

    def add(self, contender: str, cost: Cost) -> None:
        """Add one timed run."""
        self._costs.setdefault(contender, []).append(cost)

    def add_peak(self, contender: str, peak_bytes: int) -> None:
        """Set a contender's peak memory."""
        self._peak_bytes[contender] = peak_bytes

    def seconds(self, contender: str) -> float | None:
        """Give the median time of a contender, or None if it has none."""
        costs = self._costs.get(contender)
        return median(cost.seconds for cost in costs) if costs else None

    def runs(self, contender: str) -> int:
        """Tell how many timed runs a contender has had."""
        return len(self._costs.get(contender, ()))

    def figures(self, contender: str) -> Figures:
        """Give a contender's medians."""
        seconds = self.seconds(contender)
        peak_bytes = self._peak_bytes.get(contender)
        peak_rss_mb = _rounded(peak_bytes / _MB) if peak_bytes and contender != LIMIT else None
        if seconds is None:
            return Figures(self.case.letter, contender, None, None, None, peak_rss_mb, None, None)
        size_gb = self.case.size_bytes / _GB
        cpu_seconds = median(cost.cpu_seconds for cost in self._costs[contender])
        seed, limit = self.seconds(SEED_LOOP), self.seconds(LIMIT)
        return Figures(
            case=self.case.letter,
            contender=contender,
            gb_per_s=_rounded(size_gb / seconds),
            cpu_s_per_gb=_rounded(cpu_seconds / size_gb),
            files_per_s=_rounded(self.case.objects / seconds) if self.case.is_job else None,
            peak_rss_mb=peak_rss_mb,
            times_seed_loop=_rounded(seed / seconds) if seed else None,
            share_of_limit=_rounded(limit / seconds) if limit else None,
        )


def show(console: Console, result: CaseResult, contenders: Iterable[str]) -> None:
    """Print one case's table and notes."""
    table = Table(title=_title(result.case), title_justify="left")
    for heading in _HEADINGS:
        table.add_column(heading, justify="left" if heading == "contender" else "right")
    for contender in contenders:
        table.add_row(*_row(result, contender))
    console.print(table)
    for line in _notes(result):
        console.print(line)


def write_markdown(path: Path, about: str, results: Sequence[CaseResult], contenders: Sequence[str]) -> None:
    """Write all tables as Markdown."""
    parts = [about]
    for result in results:
        rows = [_HEADINGS, tuple("---" if i == 0 else "--:" for i in range(len(_HEADINGS)))]
        rows += [_row(result, contender) for contender in contenders]
        table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
        parts += [f"**{_title(result.case)}**", table, *_notes(result)]
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def write_json(path: Path, results: Sequence[CaseResult], contenders: Sequence[str]) -> None:
    """Write a list of figures; a contender without any (missing, timed out) is not in it."""
    figures = [
        asdict(result.figures(contender))
        for result in results
        for contender in contenders
        if result.seconds(contender) is not None
    ]
    path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def _title(case: Case) -> str:
    return f"{case.letter}: {case.title} ({case.objects} of {case.object_bytes:,} bytes)"


def _notes(result: CaseResult) -> list[str]:
    return [f"{contender}: {note}." for contender, note in result.notes.items()]


def _row(result: CaseResult, contender: str) -> tuple[str, ...]:
    figures = result.figures(contender)
    return (
        contender,
        str(result.runs(contender) or "-"),
        *(
            "-" if value is None else f"{value:,.{decimals}f}"
            for value, decimals in (
                (figures.gb_per_s, 3),
                (figures.cpu_s_per_gb, 2),
                (figures.files_per_s, 0),
                (figures.peak_rss_mb, 0),
                (figures.times_seed_loop, 2),
                (figures.share_of_limit, 2),
            )
        ),
    )


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
