from __future__ import annotations

from worker.storage.library_way import SentRequest


def test_a_sent_request_does_not_show_how_it_was_signed() -> None:
    """It may stand in a traceback."""
    sent = SentRequest("https://host/bucket/key", "AWS4-HMAC-SHA256 Signature=hush")

    assert "hush" not in repr(sent)
