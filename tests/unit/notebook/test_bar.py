"""The progress bar where nobody sees it, and on a terminal."""

import pytest

from worker.notebook.bar import Bar


def go_through(bar: Bar) -> None:
    """Hash two files of ten bytes, one of which fails half-way."""
    with bar:
        bar.set_total(2, 20)
        bar.add(10)
        bar.add_done(10)
        bar.add(-10)
        bar.add(5)
        bar.add_done(10)
        bar.add(-5)
        bar.refresh()


def test_in_a_pipe_nothing_is_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    """A program's output is its own."""
    go_through(Bar())

    assert capsys.readouterr() == ("", "")


def test_on_a_terminal_it_is_drawn_on_standard_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes, files and the end; it takes itself away then."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")

    go_through(Bar())

    out, err = capsys.readouterr()
    assert out == ""
    assert "20/20 bytes" in err
    assert "2 of 2 files" in err
