"""The cells of docs/notebooks.md, run in their order in one notebook."""

import re
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

PAGE = Path(__file__).parents[2] / "docs/notebooks.md"


async def test_every_cell_of_the_page_runs() -> None:
    """And the ones that show something show the right thing."""
    page = PAGE.read_text(encoding="utf-8").replace('getpass("S3 secret key: ")', "'asked for'")
    cells = re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    v4: Any = nbformat.v4  # without types
    notebook = v4.new_notebook(cells=list(map(v4.new_code_cell, cells)))

    await NotebookClient(notebook, timeout=60).async_execute()

    _, loop, fast, stream, *_ = notebook.cells
    assert loop.outputs[-1].data["text/plain"] == "<JobStatus.COMPLETED: 'COMPLETED'>"
    assert "blake3" in fast.outputs[-1].data["text/plain"]
    assert stream.outputs[-1].text == "Are these files still what they were?\n\n"
