"""JSON for people: how a file's metadata looks in a job message."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from worker.libsafe.models import MetadataItem


def format_json_item(item: object) -> str:
    """Write JSON as indented text, keys in order and unicode as it is: the vendor's `Util.format_json_item`.

    Args:
        item: Anything that JSON can hold, or a list of metadata items: these become one object from iecode
            to value, or to a list of values where an iecode comes several times.
    """
    if isinstance(item, Sequence) and item and all(isinstance(part, MetadataItem) for part in item):
        item = flattened(item)
    return json.dumps(item, indent=4, ensure_ascii=False)


def flattened(items: Iterable[MetadataItem]) -> dict[str, Any]:
    """Make a dictionary of metadata: iecode to value, or to a list where an iecode comes several times."""
    values: dict[str, list[Any]] = {}
    for item in items:
        values.setdefault(item.iecode, []).append(item.value)
    return {iecode: several if len(several) > 1 else several[0] for iecode, several in values.items()}
