"""The table of what was hashed, without pandas."""

from worker.notebook.table import Rows


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
