"""Sums the lines of all scenarios up: a table for people, build/faults.json, and the exit status.

It fails where anything bad was found, where a scenario failed, or where one that the suite has left no line.
"""

import ast
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.support.fault_judge import BAD
from tests.support.fault_scenario import LINES

_SUMMARY = Path("build/faults.json")
_HERE = Path(__file__).parent
_SUMMED = ("faults_injected", "jobs", *BAD)


def main() -> int:
    """Write the summary and give the exit status."""
    lines = [json.loads(line) for line in LINES.read_text(encoding="utf-8").splitlines()]
    missing = sorted(_scenarios() - {_function(line) for line in lines})
    failed = sorted({line["name"] for line in lines if not line["passed"]})
    totals = {key: sum(line[key] for line in lines) for key in _SUMMED}
    about = {
        "scenarios": len(lines),
        "seeds": sorted({line["seed"] for line in lines}),
        "minutes": round(sum(line["seconds"] for line in lines) / 60, 1),
    }
    _SUMMARY.write_text(json.dumps(totals | about, indent=2) + "\n", encoding="utf-8")
    told = [*_table(lines), _total(totals, about)]
    told += [f"failed: {name}" for name in failed] + [f"left no line: {name}" for name in missing]
    sys.stdout.write("\n".join(told) + "\n")
    return 1 if failed or missing or any(totals[key] for key in BAD) else 0


def _scenarios() -> set[str]:
    """Give the names of all scenarios of the suite, as they stand in its files."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in _HERE.glob("test_*.py")]
    functions = [node for tree in trees for node in tree.body if isinstance(node, ast.AsyncFunctionDef)]
    return {function.name for function in functions if function.name.startswith("test_")}


def _function(line: dict[str, Any]) -> str:
    return str(line["name"]).partition("[")[0]


def _table(lines: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield f"{'faults':>6} {'jobs':>5} {'bad':>4} {'seconds':>8}  scenario"
    for name in sorted({_function(line) for line in lines}):
        own = [line for line in lines if _function(line) == name]
        bad = sum(line[key] for line in own for key in BAD)
        faults, jobs, seconds = (
            sum(line[key] for line in own) for key in ("faults_injected", "jobs", "seconds")
        )
        told = name.removeprefix("test_").replace("_", " ") + (f" ({len(own)} ways)" if len(own) > 1 else "")
        yield f"{faults:>6} {jobs:>5} {bad:>4} {seconds:>8.1f}  {told}"


def _total(totals: dict[str, int], about: dict[str, Any]) -> str:
    counts = ", ".join(f"{count} {key.replace('_', ' ')}" for key, count in totals.items())
    return f"{about['scenarios']} scenarios, FAULT_SEED={' '.join(about['seeds'])}: {counts}"


if __name__ == "__main__":
    sys.exit(main())
