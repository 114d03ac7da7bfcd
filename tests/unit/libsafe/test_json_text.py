from worker.libsafe.json_text import format_json_item
from worker.libsafe.models import MetadataItem


def test_json_is_indented_in_its_own_order_with_its_own_letters() -> None:
    """A person reads it in the platform's list of messages."""
    text = format_json_item({"title": "Übersicht ✓", "author": ["a", None, 1]})

    assert text == (
        '{\n    "title": "Übersicht ✓",\n    "author": [\n        "a",\n        null,\n        1\n    ]\n}'
    )


def test_metadata_becomes_one_object_with_lists_for_repeated_codes() -> None:
    """One line a code, in the order in which the codes came first."""
    items = (
        MetadataItem(iecode="subject", value="b"),
        MetadataItem(iecode="title", value="t"),
        MetadataItem(iecode="subject", value="a"),
        MetadataItem(iecode="parts", value=["x", "y"]),
    )

    assert format_json_item(items) == format_json_item(
        {"subject": ["b", "a"], "title": "t", "parts": ["x", "y"]}
    )


def test_nothing_is_written_as_it_is() -> None:
    """An empty list is no metadata, and stays a list."""
    assert format_json_item([]) == "[]"
    assert format_json_item("") == '""'
    assert format_json_item(None) == "null"
