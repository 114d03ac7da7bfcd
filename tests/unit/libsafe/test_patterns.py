import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.libsafe.patterns import MAX_GLOBS, MAX_PATTERN_CHARACTERS, PathRegex, globs

PATH = "/scans/2024/a b.TIF"


@pytest.mark.parametrize(
    "pattern", ["", "^/scans/", "2024", r"\.TIF$", r"(?i)\.tif$", "^(?!.*/tmp/)", "[a-z] b"]
)
def test_a_regular_expression_is_searched_anywhere_in_the_path(pattern: str) -> None:
    """The vendor does not say whether it has to match all; whoever wants that writes ^ and $."""
    assert PathRegex(pattern).is_in(PATH)


@pytest.mark.parametrize("pattern", ["^scans", r"\.tif$", "/scans$", "2025"])
def test_what_is_not_in_the_path_is_not_found(pattern: str) -> None:
    """Case matters, and the path begins with its slash."""
    assert not PathRegex(pattern).is_in(PATH)


@pytest.mark.parametrize(("pattern", "character"), [("(", 2), ("a(b", 4), ("[", 2), ("*a", 1), ("a\\", 3)])
def test_what_is_no_regular_expression_is_refused_with_its_place(pattern: str, character: int) -> None:
    """Whoever typed it finds the place, and nobody else reads it."""
    with pytest.raises(ValueError, match=f"^is no regular expression; look at its character {character}$"):
        PathRegex(pattern)


@pytest.mark.parametrize("pattern", ["(?V0)(?V1)a", "(" * 500 + ")" * 500])
def test_what_the_compiler_gives_up_is_refused(pattern: str) -> None:
    """Whatever it raises, the pattern is at fault."""
    with pytest.raises(ValueError, match=r"^is no regular expression that can be used$"):
        PathRegex(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        "((a{1000}){1000}){1000}",
        "((((((((a{9}){9}){9}){9}){9}){9}){9}){9})",
        "(?x) (((ab) {1000}) # again\n {1000})",
        "(?:(?:ab){1000,}){1000,}",
        "a{9999999999}",
    ],
)
def test_repeats_of_repeats_are_refused_before_they_fill_the_memory(pattern: str) -> None:
    """Forty characters could take all that the worker's machine has."""
    with pytest.raises(ValueError, match="repeats too much"):
        PathRegex(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
        r"(\d{1,3}\.){3}\d{1,3}",
        r"\d{4}/\d{2}/\d{2}/.{0,200}",
        r"^(/[^/]{1,255}){1,20}$",
        r"(?:[\w-]{2,64}/){10}",
    ],
)
def test_repeats_that_people_write_are_taken(pattern: str) -> None:
    """The bound is for bombs."""
    PathRegex(pattern).is_in(PATH)


@pytest.mark.parametrize("pattern", ["(?R)a", "(a(?1)?)", "(?<n>a)(?&n)", "(?<n>a)(?P>n)", "(a)(?-1)"])
def test_a_group_that_calls_a_group_is_refused(pattern: str) -> None:
    """One that calls itself without end fills the memory sooner than its time is over."""
    with pytest.raises(ValueError, match=r"^calls a group"):
        PathRegex(pattern)


def test_the_longest_pattern_is_taken_and_one_character_more_is_not() -> None:
    """The limit is exact."""
    PathRegex("a" * MAX_PATTERN_CHARACTERS)

    with pytest.raises(ValueError, match="is longer than 1024 characters"):
        PathRegex("a" * (MAX_PATTERN_CHARACTERS + 1))


@pytest.mark.parametrize(
    ("pattern", "path"), [("(a|aa)+$", "/" + "a" * 60 + "!"), ("(a+)+$", "/" + "a" * 4000 + "!")]
)
def test_a_search_without_end_is_an_error(pattern: str, path: str) -> None:
    """A pattern that would take years must not hold the worker."""
    with pytest.raises(TimeoutError):
        PathRegex(pattern).is_in(path)


@given(
    st.text(alphabet=r"ab/.*+?()[]{}|^$\,-:=!<>#PRVix12 ", max_size=12), st.text(alphabet="ab/1", max_size=12)
)
def test_any_text_is_a_regular_expression_or_a_value_error(pattern: str, path: str) -> None:
    """Nothing else is raised, and nothing is quoted."""
    try:
        compiled = PathRegex(pattern)
    except ValueError as error:
        assert len(pattern) < 4 or pattern not in str(error)  # noqa: PT017 - most texts are none
        return
    assert compiled.is_in(path) in {True, False}


@pytest.mark.parametrize(
    ("value", "taken"),
    [
        (None, ()),
        ("", ()),
        (" \n\r\n", ()),
        ([], ()),
        ("*.tif", ("*.tif",)),
        ("*.tif\n  *.jpg \r\n\n*.tif", ("*.tif", "*.jpg")),
        ("a, b.tif", ("a, b.tif",)),
        (["*.tif", " a ", "b\nc", "*.tif"], ("*.tif", " a ", "b\nc")),
        (("x",), ("x",)),
    ],
)
def test_globs_are_a_list_or_the_lines_of_a_text(value: object, taken: tuple[str, ...]) -> None:
    """A comma may be part of a name, a line break only in a list."""
    assert globs(value) == taken


@pytest.mark.parametrize("value", [5, True, {}, {"a": 1}, [""], [5], [None], [["a"]], ["a", ""]])
def test_globs_in_another_form_are_refused(value: object) -> None:
    """What is not understood is not passed over: it would hash what nobody wanted, or nothing."""
    with pytest.raises(ValueError, match=r"^must be a list of globs, or one text with a glob on each line$"):
        globs(value)


def test_globs_are_bounded_in_number_and_length() -> None:
    """Each is tried on each of millions of paths."""
    most = [str(number) for number in range(MAX_GLOBS)]
    assert globs(most) == tuple(most)
    assert globs("x" * MAX_PATTERN_CHARACTERS)

    with pytest.raises(ValueError, match=r"^has more than 100 globs$"):
        globs([*most, "one more"])
    with pytest.raises(ValueError, match=r"^has a glob of more than 1024 characters$"):
        globs(["x" * (MAX_PATTERN_CHARACTERS + 1)])
