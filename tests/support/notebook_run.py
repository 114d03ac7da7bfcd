"""A notebook in a fresh kernel; as a program: run one and keep it with its outputs.

python -m tests.support.notebook_run examples/hash_container.ipynb
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

Notebook = Any  # nbformat has no types
_VERSION = 4


def read_notebook(path: Path) -> Notebook:
    """Read a notebook as it is kept."""
    return nbformat.read(path, _VERSION)  # type: ignore[no-untyped-call]  # as above


def run_notebook(notebook: Notebook, environment: Mapping[str, str] | None = None) -> None:
    """Run all cells; their outputs come into the notebook, and nothing of when or by which Python.

    Raises:
        nbclient.exceptions.CellExecutionError: A cell failed.
    """
    client = NotebookClient(notebook, timeout=100, record_timing=False)
    client.execute(**({} if environment is None else {"env": dict(environment)}))
    notebook.metadata.pop("language_info")


def main() -> None:
    """Run the notebook that is named, and write it back."""
    path = Path(sys.argv[1])
    notebook = read_notebook(path)
    run_notebook(notebook)
    nbformat.write(notebook, path)  # type: ignore[no-untyped-call]  # as above


if __name__ == "__main__":
    main()
