"""examples/hash_container.ipynb: run in a fresh kernel, and as it is kept."""

import base64
import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
import pytest

from tests.support.marked_processes import processes_with
from tests.support.notebook_run import Notebook, read_notebook, run_notebook

NOTEBOOK = Path(__file__).parents[2] / "examples/hash_container.ipynb"
ALGORITHMS = ("md5", "sha1", "sha256")
# Run before the last cell, which takes all away.
LOOK = """
import json, os, shutil
shutil.copytree(folder, os.environ["NOTEBOOK_COPY"])
print(json.dumps({
    "payloads": [payload, missing_payload],
    "table": json.loads(table.to_json(orient="records")),
    "statuses": {name: Job.get(one.job_id).status for name, one in requests.items()},
    "hashes": [File.get_hashes(file.id) for file in request.Files],
}))
"""
MACHINE_PATH = re.compile(r"(?<![\w<])/(?:home|root|tmp|usr|var|opt|mnt|srv|work|Users)/|site-packages")


class Done(NamedTuple):
    """What a run left.

    Attributes:
        notebook: With its outputs.
        seen: What the test's own cell has seen.
        files: A copy of the files that were hashed.
        temporary: Where the run had its temporary files.
        marker: Of the run's processes.
    """

    notebook: Notebook
    seen: Any
    files: Path
    temporary: Path
    marker: str


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """Run the notebook once for all tests; a cell that fails is an error here."""
    folder = tmp_path_factory.mktemp("notebook")
    temporary, files = folder / "tmp", folder / "files"
    temporary.mkdir()
    marker = f"notebook-{os.getpid()}"
    notebook = read_notebook(NOTEBOOK)
    v4: Any = nbformat.v4  # without types
    look = v4.new_code_cell(LOOK)
    notebook.cells.insert(-1, look)
    run_notebook(
        notebook,
        os.environ | {"TMPDIR": str(temporary), "NOTEBOOK_COPY": str(files), "NOTEBOOK_MARKER": marker},
    )
    notebook.cells.remove(look)
    return Done(notebook, json.loads(look.outputs[0].text), files, temporary, marker)


@pytest.fixture
def kept() -> Notebook:
    """Give the notebook as it is kept."""
    return read_notebook(NOTEBOOK)


def outputs(notebook: Notebook) -> Iterator[Any]:
    """Give all outputs of a notebook."""
    for cell in notebook.cells:
        yield from cell.get("outputs", [])


def texts(notebook: Notebook) -> str:
    """Give all that a reader can see or find in the outputs, but the pictures."""
    shown = [{**output.get("data", {}), "stream": output.get("text", "")} for output in outputs(notebook)]
    return "\n".join(text for data in shown for kind, text in data.items() if not kind.startswith("image/"))


def test_every_job_ends_as_the_text_says(done: Done) -> None:
    """Only that with a missing file is FAILED."""
    assert done.seen["statuses"] == {
        "the loop": "COMPLETED",
        "the fast way": "COMPLETED",
        "an algorithm of your own": "COMPLETED",
        "a file is missing": "FAILED",
    }
    assert "page-99.tif was not hashed: container 1 has no such file." in texts(done.notebook)


def test_the_digests_of_the_table_and_on_the_platform_are_those_of_the_files(done: Done) -> None:
    """Judged by hashlib over a copy of them."""
    contents = {f"/{path.relative_to(done.files)}": path.read_bytes() for path in done.files.rglob("*.*")}
    table = {row["path"]: row for row in done.seen["table"]}

    expected = {
        path: {name: hashlib.new(name, content, usedforsecurity=False).hexdigest() for name in ALGORITHMS}
        for path, content in contents.items()
    }

    assert len(contents) == 84
    assert {path: {name: row[name] for name in ALGORITHMS} for path, row in table.items()} == expected
    assert {path: row["size_bytes"] for path, row in table.items()} == {
        path: len(content) for path, content in contents.items()
    }
    for hashes, row in zip(done.seen["hashes"], done.seen["table"], strict=True):
        assert {name: hashes[name] for name in ALGORITHMS} == expected[row["path"]]
        assert len(hashes["tree-sha256"]) == 64


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_no_process_and_no_file_is_left(done: Done) -> None:
    """Broker, S3, lanes and the kernel are gone, and what they wrote."""
    while processes_with(done.marker):  # the last of them sees that the kernel is gone
        time.sleep(0.02)

    assert list(done.temporary.iterdir()) == []


def test_no_output_holds_a_key_or_a_warning(done: Done) -> None:
    """Whoever shares the notebook shares no key."""
    keys = [payload["api"][key] for payload in done.seen["payloads"] for key in ("key_user", "key_root")]

    shown = texts(done.notebook)

    assert not [key for key in keys if key in shown]
    assert not [output for output in outputs(done.notebook) if output.get("name") == "stderr"]


def test_it_is_kept_with_the_outputs_of_its_cells(done: Done, kept: Notebook) -> None:
    """The same kinds of outputs as a run gives, in order, and all pictures."""

    def kinds(notebook: Notebook) -> list[list[list[str]]]:
        return [
            [sorted(output.get("data", [output.output_type])) for output in cell.get("outputs", [])]
            for cell in notebook.cells
        ]

    code = [cell for cell in kept.cells if cell.cell_type == "code"]

    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert kinds(kept) == kinds(done.notebook)
    assert sum("image/png" in output.get("data", {}) for output in outputs(kept)) == 2


def test_what_is_kept_tells_nothing_of_the_machine(kept: Notebook) -> None:
    """No path, no error, no time and no Python's version."""
    assert not MACHINE_PATH.findall(texts(kept))
    assert {output.output_type for output in outputs(kept)} <= {"stream", "display_data", "execute_result"}
    assert not [output for output in outputs(kept) if output.get("name") == "stderr"]
    assert set(kept.metadata) == {"kernelspec"}
    assert kept.metadata.kernelspec.name == "python3"
    assert not [cell.metadata for cell in kept.cells if cell.metadata]
    assert set(re.findall(r'"key_\w+": "(.*)"', texts(kept))) == {"…"}


def test_the_pictures_that_are_kept_are_small(kept: Notebook) -> None:
    """A repository keeps each of them for ever."""
    pictures = [output.data["image/png"] for output in outputs(kept) if "image/png" in output.get("data", {})]

    assert sum(len(base64.b64decode(picture)) for picture in pictures) < 200_000
    assert NOTEBOOK.stat().st_size < 400_000
