"""Processes found by their environment, which those that they start have too."""

from pathlib import Path


def processes_with(marker: str) -> list[int]:
    """Find the processes whose environment holds the marker."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and marker in (process / "environ").read_text(errors="replace"):
                found.append(int(process.name))
        except OSError:
            continue
    return found
