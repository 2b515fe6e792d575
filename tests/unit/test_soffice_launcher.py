"""The process between a worker and LibreOffice."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

_PROGRAM = "import sys; sys.path[:] = sys.argv[2:]; from workers.conversion.soffice_launcher import main; main()"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent has ended")
def test_the_program_ends_with_a_launcher_that_is_killed(tmp_path: Path) -> None:
    request = {
        "worker": os.getpid(), "program": "/bin/sh", "arguments": ["-c", "echo begun; read never"],
        "folder": str(tmp_path), "report": str(tmp_path / "cpu_s"),
        "memory_bytes": 1024**3, "cpu_s": 10, "file_bytes": 1024**2,
    }  # fmt: skip
    command = [sys.executable, "-I", "-S", "-c", _PROGRAM, json.dumps(request), *sys.path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as launcher:
        assert launcher.stdout is not None
        assert launcher.stdout.readline() == b"begun\n"
        launcher.kill()
        readable, _, _ = select.select([launcher.stdout], [], [], 10)
        assert readable, "the program still holds the pipe"
        assert launcher.stdout.read() == b""
