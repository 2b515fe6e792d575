"""The place of a backup, and the page keys of documents that are restored from one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from ingestion.errors import BadRequest
from ingestion.settings import BackupSettings, S3Settings
from workers.backup.location import backup_store
from workers.backup.page_keys import PageKeys

OWN = S3Settings(
    s3_endpoint="own:9000",
    s3_access_key="a",
    s3_secret_key=SecretStr("b"),
    s3_session_token=SecretStr("c"),
    s3_region="here",
    s3_prefix="team/",
)


def test_without_settings_of_its_own_it_is_on_the_same_server() -> None:
    found = backup_store("s3://other/nightly/x", OWN, BackupSettings())
    assert found == OWN.model_copy(update={"s3_bucket": "other", "s3_prefix": "nightly/x/"})
    assert backup_store("s3://other", OWN, BackupSettings()).s3_prefix == ""


def test_settings_of_its_own_replace_those_of_the_installation() -> None:
    backup = BackupSettings(
        backup_s3_endpoint="far:443",
        backup_s3_access_key="x",
        backup_s3_secret_key=SecretStr("y"),
        backup_s3_secure=True,
        backup_s3_region="there",
    )
    found = backup_store("s3://pagemill", OWN, backup)
    assert (found.s3_endpoint, found.s3_secure, found.s3_region, found.s3_access_key) == (
        "far:443",
        True,
        "there",
        "x",
    )
    assert found.s3_secret_key.get_secret_value() == "y"
    assert found.s3_session_token.get_secret_value() == "", "the token belongs to the other key"


@pytest.mark.parametrize("location", ["", "nightly", "https://x/y", "s3://", "s3://A_B", "s3://bucket?x=1"])
def test_another_address_is_refused(location: str) -> None:
    with pytest.raises(BadRequest, match="use s3://BUCKET"):
        backup_store(location, OWN, BackupSettings())


def test_the_bucket_of_the_installation_is_refused() -> None:
    with pytest.raises(BadRequest, match="name another"):
        backup_store("s3://pagemill/backups", OWN, BackupSettings())


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4), st.booleans()), max_size=20), st.integers(1, 1000))
def test_each_page_of_a_kept_document_gets_a_key_of_its_own(
    documents: list[tuple[int, int, bool]], first: int
) -> None:
    keys, expected, old = PageKeys(), {}, 0
    for gap, pages, is_kept in documents:
        old += gap
        if is_kept:
            keys.add(range(old, old + pages), first)
            expected.update(zip(range(old, old + pages), range(first, first + pages), strict=True))
            first += pages
        old += pages
    assert keys.new(range(old + 2)) == [expected.get(key) for key in range(old + 2)]
