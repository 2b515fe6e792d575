"""Temporary files of killed processes are removed."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from ingestion.errors import Stalled
from ingestion.scratch import own_scratch

BEGIN = """
import sys, tempfile, time
from pathlib import Path
from ingestion.scratch import own_scratch

with own_scratch(Path(sys.argv[1])) as folder:
    (Path(tempfile.mkdtemp()) / "source.pdf").write_bytes(b"%PDF")
    print(folder, flush=True)
    sys.stdin.read()
"""


def begin(base: Path) -> tuple[subprocess.Popen[str], Path]:
    """Another process that has a file in its scratch folder, and the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", BEGIN, str(base)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_scratch_folders_of_dead_processes_are_removed_and_others_stay(tmp_path: Path) -> None:
    killed, abandoned = begin(tmp_path)
    living, in_use = begin(tmp_path)
    try:
        killed.kill()
        killed.wait()
        assert list(abandoned.glob("*/source.pdf")), "a kill leaves everything as it was"
        with own_scratch(tmp_path) as mine:
            assert not abandoned.exists()
            assert list(in_use.glob("*/source.pdf"))
            assert Path(tempfile.mkdtemp()).parent == mine
        assert not mine.exists()
    finally:
        living.communicate(timeout=30)
    assert not in_use.exists(), "it tidied up itself"


def test_afterwards_temporary_files_go_where_they_went_before(tmp_path: Path) -> None:
    before = tempfile.gettempdir()
    with own_scratch(tmp_path):
        assert tempfile.gettempdir() != before
    assert tempfile.gettempdir() == before


def unclean_exits() -> float | None:
    return REGISTRY.get_sample_value("process_unclean_exits")


def test_processes_that_were_killed_or_stalled_are_counted_by_the_next_one(tmp_path: Path) -> None:
    killed, _ = begin(tmp_path)
    killed.kill()
    killed.communicate()
    with pytest.raises(Stalled), own_scratch(tmp_path):
        assert unclean_exits() == 1
        raise Stalled("a thread hangs")
    with own_scratch(tmp_path):
        assert unclean_exits() == 1
    with own_scratch(tmp_path):
        assert unclean_exits() == 0
