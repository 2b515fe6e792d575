"""Files of all accepted types, from upload to found page, on a whole stack."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import clean_environment
from tests.support.corpus import refused, write_corpus
from tests.support.libreoffice import needs_libreoffice

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400), needs_libreoffice]


def test_every_file_becomes_ready_and_its_page_is_found_or_is_refused_with_its_code(
    stack: dict[str, Any], tmp_path: Path
) -> None:
    pytest.importorskip("rapidocr", reason="pip install 'pagemill[ocr]'")
    samples, others = write_corpus(tmp_path), refused()
    for name, (content, _) in others.items():
        (tmp_path / name).write_bytes(content)
    collection = f"corpus_{secrets.token_hex(4)}"
    address = {"PAGEMILL_API_URL": stack["api_url"], "PAGEMILL_API_KEY": stack["api_key"]}
    paths = [str(tmp_path / name) for name in (*samples, *others)]
    command = [sys.executable, "-m", "workers.cli", "ingest", *paths, "--collection", collection]
    done = subprocess.run(
        [*command, "--wait", "--json"], check=False, env=clean_environment() | address, capture_output=True, text=True
    )
    ended = {Path(line["path"]).name: line for line in map(json.loads, done.stdout.splitlines())}
    assert {name: line["error"]["code"] for name, line in ended.items() if line["error"]} == {
        name: code for name, (_, code) in others.items()
    }
    assert {name for name, line in ended.items() if line["state"] == "ready"} == set(samples)

    with httpx.Client(
        base_url=f"{stack['api_url']}/api/v1/", headers={"authorization": f"Bearer {stack['api_key']}"}, timeout=60
    ) as api:
        found = {}
        for name, sample in samples.items():
            answer = api.post(f"collections/{collection}/search", json={"query": sample.sentence, "top_k": 1})
            [hit] = answer.raise_for_status().json()["hits"]
            found[name] = (hit["filename"], hit["page"])
        counts = api.get(f"collections/{collection}").raise_for_status().json()["text_pages"]
    assert found == {name: (name, sample.page) for name, sample in samples.items()}
    assert counts["ocr"] == 12, "ten pictures, one of them of two pages, and a scan"
    assert counts["unsearchable"] == 1, "the damaged page"
