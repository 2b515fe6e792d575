"""The import path of a function that a child runs. The parent chooses the function."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from typing import Any, Final

from ingestion.sandbox.plain import NotPlain

_MAIN: Final = "__pagemill_main__"
"""The launcher's module name for the program's main file, which therefore does not run as a program."""


def function_path(function: Callable[..., Any]) -> tuple[str, str]:
    """Module and name. Raises NotPlain for a method, a closure, or a value that is not a function."""
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    if not module or not name.isidentifier():
        raise NotPlain(f"{function!r} is not a function of a module: define it at the top level of one")
    return module, name


def main_module_file(module: str) -> str:
    """The file of the program where `module` is `__main__`, else ""."""
    if module != "__main__":
        return ""
    path = getattr(sys.modules["__main__"], "__file__", None)
    if not path:
        raise NotPlain("the function is defined in a program without a file, which a child cannot import")
    return str(path)


def load_main_module(path: str) -> None:
    """In the launcher. Raises OSError, ImportError."""
    if _MAIN in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(_MAIN, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[_MAIN] = module
    spec.loader.exec_module(module)


def import_function(module: str, name: str) -> Callable[..., Any]:
    """In a child. Raises ImportError, AttributeError."""
    found: Callable[..., Any] = getattr(importlib.import_module(_MAIN if module == "__main__" else module), name)
    return found
