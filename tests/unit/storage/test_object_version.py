from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.storage.errors import InvalidAddressError, WrongAnswerError
from worker.storage.object_version import ObjectAddress, check_etag, is_offline

BUCKETS = st.text(st.characters(codec="ascii", categories=("Ll", "Nd"), include_characters=".-_"), min_size=1)
KEYS = st.one_of(
    st.text(min_size=1),
    st.lists(st.sampled_from(["?versionId=", "/", "?", "a", "%20", "#", "+", " ", "é"]), min_size=1).map(
        "".join
    ),
)
VERSION_IDS = st.none() | st.text(min_size=1).filter(lambda text: "?versionId=" not in text)


@given(bucket=BUCKETS, key=KEYS, version_id=VERSION_IDS)
def test_an_address_comes_back_from_its_text(bucket: str, key: str, version_id: str | None) -> None:
    """Whatever the key holds, its text is read as the same address."""
    address = ObjectAddress(bucket, key, version_id)

    assert ObjectAddress.parse(str(address)) == address


@given(text=st.text())
def test_what_is_read_as_an_address_is_written_as_one_that_means_the_same(text: str) -> None:
    """Two texts of one address differ at most in a mark that is not needed."""
    try:
        address = ObjectAddress.parse(f"s3://{text}")
    except InvalidAddressError:
        return

    assert str(address) in {f"s3://{text}", f"s3://{text}".removesuffix("?versionId=")}


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("s3://b/k", ObjectAddress("b", "k")),
        ("s3://b//k", ObjectAddress("b", "/k")),
        ("s3://b/a b%20c#d+e?f=g", ObjectAddress("b", "a b%20c#d+e?f=g")),
        ("s3://b/k?versionId=v1", ObjectAddress("b", "k", "v1")),
        ("s3://b/k?versionId=v1?versionId=", ObjectAddress("b", "k?versionId=v1")),
        ("s3://b/k?versionId=v1?versionId=v2", ObjectAddress("b", "k?versionId=v1", "v2")),
    ],
)
def test_an_address_is_read_character_by_character(url: str, address: ObjectAddress) -> None:
    """Nothing is percent-decoded; only the last ?versionId= means something."""
    assert ObjectAddress.parse(url) == address


@pytest.mark.parametrize(
    "url", ["", "b/k", "https://b/k", "S3://b/k", "s3://", "s3://b", "s3://b/", "s3:///k"]
)
def test_a_text_without_scheme_bucket_or_key_is_refused_by_name(url: str) -> None:
    """The error quotes what was given, so that people see what is wrong with it."""
    with pytest.raises(InvalidAddressError) as caught:
        ObjectAddress.parse(url)

    assert ascii(url)[1:-1] in str(caught.value)


@pytest.mark.parametrize(
    ("bucket", "key", "version_id"),
    [
        ("", "k", None),
        ("a/b", "k", None),
        ("b", "", None),
        ("b", "k", ""),
        ("b", "k", "?versionId="),
        ("b", "\ud800", None),
    ],
)
def test_an_impossible_part_is_refused(bucket: str, key: str, version_id: str | None) -> None:
    """What no storage can hold, or no text can say, never becomes an address."""
    with pytest.raises(InvalidAddressError):
        ObjectAddress(bucket, key, version_id)


@pytest.mark.parametrize(
    ("storage_class", "archive_status", "restore", "offline"),
    [
        ("STANDARD", "", "", False),
        ("GLACIER_IR", "", "", False),
        ("INTELLIGENT_TIERING", "", "", False),
        ("GLACIER", "", "", True),
        ("DEEP_ARCHIVE", "", "", True),
        ("GLACIER", "", 'ongoing-request="true"', True),
        ("GLACIER", "", 'ongoing-request="false", expiry-date="Fri, 21 Dec 2012 00:00:00 GMT"', False),
        ("INTELLIGENT_TIERING", "ARCHIVE_ACCESS", "", True),
        ("INTELLIGENT_TIERING", "DEEP_ARCHIVE_ACCESS", 'ongoing-request="true"', True),
    ],
)
def test_only_a_finished_restore_brings_a_cold_object_back(
    storage_class: str, archive_status: str, restore: str, *, offline: bool
) -> None:
    """The rules of the S3 documentation for x-amz-storage-class, -archive-status and -restore."""
    assert is_offline(storage_class, archive_status, restore) is offline


@pytest.mark.parametrize("etag", ['"a"', "a"])
def test_a_strong_etag_can_pin(etag: str) -> None:
    """With quotes, as it should be, or without, as some servers send it."""
    assert check_etag(ObjectAddress("b", "k"), etag) == etag


@pytest.mark.parametrize("etag", [None, "", 'W/"a"'])
def test_only_a_strong_etag_can_pin(etag: str | None) -> None:
    """If-Match never matches a weak one (RFC 9110, 13.1.1)."""
    with pytest.raises(WrongAnswerError, match="s3://b/k"):
        check_etag(ObjectAddress("b", "k"), etag)
