from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from workers.stack.port_claims import port_claims
from workers.stack.supervise import StackError


def claim(root: str, ports: list[int], folder: Path) -> None:
    with port_claims(Path(root), folder) as claims:
        claims.claim(ports)


def others(root: str, folder: Path) -> set[int]:
    with port_claims(Path(root), folder) as claims:
        return claims.of_others


def test_a_stack_sees_the_ports_of_others_and_not_its_own(tmp_path: Path) -> None:
    claim("/a", [20_000, 20_001], tmp_path)
    assert others("/b", tmp_path) == {20_000, 20_001}
    assert others("/a", tmp_path) == set()


def test_a_new_claim_replaces_the_one_before(tmp_path: Path) -> None:
    claim("/a", [20_000], tmp_path)
    claim("/a", [20_001], tmp_path)
    assert others("/b", tmp_path) == {20_001}


def test_a_claim_ends_with_its_process(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib\nfrom workers.stack.port_claims import port_claims\n"
        "with port_claims(pathlib.Path('/a'), pathlib.Path(sys.argv[1])) as claims: claims.claim([20_000])"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    assert "20000" in next(tmp_path.iterdir()).read_text()
    assert others("/b", tmp_path) == set()


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"/a": 5}', '{"/a": []}', '{"/a": ["x"]}', json.dumps(None)])
def test_a_damaged_file_counts_as_empty(tmp_path: Path, content: str) -> None:
    claim("/a", [20_000], tmp_path)
    next(tmp_path.iterdir()).write_text(content)
    assert others("/b", tmp_path) == set()
    claim("/b", [20_001], tmp_path)
    assert others("/a", tmp_path) == {20_001}


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / f"pagemill-ports-{os.getuid()}.json").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StackError, match=r"pagemill-ports-.* cannot be opened"):
        claim("/a", [20_000], tmp_path)
