import pytest

from worker.libsafe.reports import MessageReport, ReportPolicy


@pytest.mark.parametrize(
    ("level", "sent"),
    [("INFO", ("INFO", "text")), ("WARNING", ("INFO", "WARNING: text")), ("ERROR", ("INFO", "ERROR: text"))],
)
def test_a_level_without_a_type_goes_as_info_with_its_name(level: str, sent: tuple[str, str]) -> None:
    """INFO is the only published type, and no level may be lost in it."""
    assert ReportPolicy().message(MessageReport("text", level)) == sent


def test_a_level_with_a_type_goes_as_that_type() -> None:
    """A tenant that knows its types names them."""
    policy = ReportPolicy(message_types={"INFO": "NOTICE", "ERROR": "FAILURE"})

    assert policy.message(MessageReport("text", "ERROR")) == ("FAILURE", "text")
    assert policy.message(MessageReport("text", "INFO")) == ("NOTICE", "text")
    assert policy.message(MessageReport("text", "WARNING")) == ("NOTICE", "WARNING: text")


def test_a_mapping_without_info_still_has_info() -> None:
    """The one published type needs no setting."""
    policy = ReportPolicy(message_types={})

    assert policy.message(MessageReport("text")) == ("INFO", "text")
    assert policy.message(MessageReport("text", "ERROR")) == ("INFO", "ERROR: text")


def test_only_the_published_hashes_have_a_name() -> None:
    """A name that the vendor has not published is not tried on a customer's archive."""
    names = [ReportPolicy().hash_name(algorithm) for algorithm in ("md5", "sha1", "sha256", "blake3", "MD5")]

    assert names == ["md5", "sha1", "sha256", None, None]


def test_an_empty_name_is_none() -> None:
    """Who adds an algorithm that the platform refuses says so, and its digest stays a message."""
    assert ReportPolicy(hash_names={"adler32": ""}).hash_name("adler32") is None
