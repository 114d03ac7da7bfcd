"""The table of what was hashed, without pandas."""

import sys
from pathlib import Path

import pytest

from worker.notebook.table import Rows, make_table


def test_rows_show_themselves_as_a_table() -> None:
    """Each column as wide as its widest value; what is not there is left blank."""
    rows = Rows(
        [
            {"file_id": "1", "path": "/long name.txt", "md5": "ab", "error": None},
            {"file_id": None, "path": "/b", "md5": None, "error": "no such file"},
        ]
    )

    assert repr(rows).splitlines() == [
        "file_id  path            md5  error",
        "1        /long name.txt  ab",
        "         /b                   no such file",
    ]


def test_no_rows_say_so() -> None:
    """An empty cell would look like a fault."""
    assert repr(Rows()) == "no files"


@pytest.mark.parametrize("module", ["raise ValueError('numpy.dtype size changed')", "", "1 / 0"])
def test_a_pandas_that_does_not_work_loses_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    """One that does not fit its numpy, or a folder of that name; the files are hashed by then."""
    (tmp_path / "pandas.py").write_text(module, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "pandas", None)
    del sys.modules["pandas"]  # put back by monkeypatch

    table = make_table([{"md5": "ab", "file_id": "1"}], ["file_id", "md5"])

    assert isinstance(table, Rows)
    assert table == [{"file_id": "1", "md5": "ab"}]
