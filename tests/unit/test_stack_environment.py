"""The settings of a stack, where the user has settings of their own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from workers.stack.environment import given_names, replace_settings
from workers.stack.supervise import ProcessSpec, Supervised


def test_a_setting_of_the_stack_goes_before_a_file_that_the_user_has_named() -> None:
    environment = {
        "PAGEMILL_API_KEY_FILE": "/key",
        "PAGEMILL_MONGO_URI": "own",
        "PAGEMILL_MILVUS_TOKEN_FILE": "/token",
    }
    replace_settings(environment, {"PAGEMILL_API_KEY": "made", "PAGEMILL_MONGO_URI": "local"})
    assert environment == {
        "PAGEMILL_API_KEY": "made",
        "PAGEMILL_MONGO_URI": "local",
        "PAGEMILL_MILVUS_TOKEN_FILE": "/token",
    }


def test_what_the_user_has_set_is_known_also_where_it_is_in_a_file() -> None:
    names = {"PAGEMILL_HNSW_M": "", "PAGEMILL_HNSW_EF": "", "PAGEMILL_SEARCH_ANN_REQUESTS": ""}
    environment = {"PAGEMILL_HNSW_M": "8", "PAGEMILL_HNSW_EF_FILE": "/ef"}
    assert given_names(environment, names) == {"PAGEMILL_HNSW_M", "PAGEMILL_HNSW_EF"}


async def test_a_process_gets_the_settings_of_its_spec_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAGEMILL_WORKER_ID_FILE", "/id")
    shown = "import os; print(os.environ['PAGEMILL_WORKER_ID'], 'PAGEMILL_WORKER_ID_FILE' in os.environ)"

    async def never() -> None: ...

    spec = ProcessSpec("w", (sys.executable, "-c", shown), "", never, env={"PAGEMILL_WORKER_ID": "worker-1"})
    process = Supervised(spec, tmp_path / "log")
    await process.start()
    await process.wait()
    assert (tmp_path / "log").read_text() == "worker-1 False\n"
    assert os.environ["PAGEMILL_WORKER_ID_FILE"] == "/id"
