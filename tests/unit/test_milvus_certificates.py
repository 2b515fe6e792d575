"""Files of certificates for Milvus that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingestion.adapters.milvus.connection import connect
from ingestion.errors import InvalidSetting
from ingestion.settings import MilvusSettings


@pytest.mark.parametrize("name", ["cafile", "certfile"])
@pytest.mark.parametrize("content", [None, "no certificate"], ids=["missing", "unreadable"])
def test_a_file_that_cannot_be_used_is_an_error_that_names_its_setting(
    tmp_path: Path, name: str, content: str | None
) -> None:
    path = tmp_path / "file.pem"
    if content is not None:
        path.write_text(content)
    settings = MilvusSettings(milvus_uri="https://127.0.0.1:1", **{f"milvus_{name}": path})
    with pytest.raises(InvalidSetting, match=rf"PAGEMILL_MILVUS_{name.upper()}: .*file\.pem cannot be used"):
        connect(settings)
