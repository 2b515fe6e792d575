"""Confinement of a process before it reads a hostile byte: limits, namespaces, Landlock, seccomp.

Nothing here can be undone: soft limits equal hard limits, and the process has no right to raise them.
"""

from __future__ import annotations

import os
import resource
import sys
import sysconfig
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from ingestion.sandbox import landlock, namespaces, seccomp
from ingestion.sandbox.libc import die_with_parent, prctl

_PR_SET_NO_NEW_PRIVS: Final = 38
_OPEN_FILES: Final = 64
_OOM_SCORE: Final = "1000"
"""Where the machine runs out of memory, the kernel kills a child before any other process."""

_SYSTEM_FILES: Final = (
    "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache", "/etc/ld.so.conf.d",
    "/usr/share/fonts", "/usr/local/share/fonts", "/usr/share/X11/fonts", "/usr/share/fontconfig", "/etc/fonts",
    "/var/cache/fontconfig", "/usr/share/poppler", "/usr/share/ghostscript", "/nix/store", "/gnu/store",
    "/dev/null", "/dev/urandom",
)  # fmt: skip
"""Libraries and fonts: the same on every machine with the same packages."""


@dataclass(frozen=True, slots=True)
class ProcessLimits:
    """`cpu_s` is for the life of the process. `file` is the one it may read, "" for none."""

    memory_bytes: int
    cpu_s: int
    file: str


@dataclass(frozen=True, slots=True)
class Protections:
    """Which protections of the system confine a child. Limits and the empty environment do so everywhere."""

    namespaces: bool
    landlock: int
    """Its version, 0 where the kernel has none."""
    seccomp: bool

    def missing(self) -> list[str]:
        found = {
            "user and network namespaces": self.namespaces,
            "Landlock": bool(self.landlock),
            "seccomp": self.seccomp,
        }
        return [name for name, is_on in found.items() if not is_on]


def isolate() -> Protections:
    """Drop network and privileges for this process and all its later children, which need neither."""
    in_namespaces = namespaces.enter()
    if sys.platform == "linux":
        namespaces.drop_capabilities()
        prctl(_PR_SET_NO_NEW_PRIVS, 1)
    protections = Protections(in_namespaces, landlock.version(), seccomp.is_available())
    if protections.seccomp:
        seccomp.prepare()
    return protections


def ruleset(limits: ProcessLimits, protections: Protections, *, program: str | None) -> int | None:
    """In the launcher: the Landlock ruleset of a child, as an open descriptor. None without Landlock. Raises OSError.

    `program` is the only file that the child may execute, if any.
    """
    if not protections.landlock:
        return None
    own = [rule for path in (limits.file,) if path and (rule := landlock.path_rule(path)) is not None]
    try:
        return landlock.ruleset(protections.landlock, [*_common_rules(), *_executable_rules(program), *own])
    finally:
        for rule in own:
            os.close(rule.descriptor)


def confine(
    limits: ProcessLimits, protections: Protections, parent: int, *, ruleset: int | None, may_execute: bool = False
) -> None:
    """Confine this process, a child of `parent` with one thread. `ruleset` is what `ruleset()` returned.

    Raises OSError; the process must then end.
    """
    die_with_parent(parent)
    if sys.platform == "linux":
        with suppress(OSError):
            _write_oom_score()
    _limit(limits)
    if ruleset is not None:
        landlock.restrict(ruleset)
        os.close(ruleset)
    if protections.seccomp:
        seccomp.apply(os.getpid(), may_execute=may_execute)


def _limit(limits: ProcessLimits) -> None:
    values = {
        "RLIMIT_CORE": 0,
        "RLIMIT_FSIZE": 0,
        "RLIMIT_NOFILE": _OPEN_FILES,
        "RLIMIT_NPROC": 0,
        "RLIMIT_MEMLOCK": 0,
        "RLIMIT_MSGQUEUE": 0,
        "RLIMIT_CPU": limits.cpu_s,
        "RLIMIT_AS": limits.memory_bytes,
    }
    for name, value in values.items():
        if (kind := getattr(resource, name, None)) is None:
            continue
        _, hard = resource.getrlimit(kind)
        lowest = value if hard == resource.RLIM_INFINITY else min(value, hard)
        try:
            resource.setrlimit(kind, (lowest, lowest))
        except (OSError, ValueError):
            if sys.platform == "linux":
                raise  # other systems do not have all of them


@lru_cache(maxsize=1)
def _common_rules() -> tuple[landlock.PathRule, ...]:
    """Libraries, fonts, and installed Python packages, which a function may import late. Never closed."""
    paths = sysconfig.get_paths()
    python = {paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    packages = {path for path in sys.path if path.endswith(("site-packages", "dist-packages"))}
    libraries = {path for path in os.environ.get("LD_LIBRARY_PATH", "").split(":") if path}
    found = (landlock.path_rule(path) for path in (*_SYSTEM_FILES, *sorted(python | packages | libraries)))
    return tuple(rule for rule in found if rule is not None)


@lru_cache(maxsize=4)
def _executable_rules(program: str | None) -> tuple[landlock.PathRule, ...]:
    """The program, the loader, and the libraries beside the program. The kernel requires the right to execute for the
    first two."""
    if program is None:
        return ()
    path = Path(program).resolve()
    loaders = [one for pattern in ("lib*/ld-*.so*", "lib*/*/ld-*.so*") for one in Path("/").glob(pattern)]
    executables = sorted({str(one.resolve()) for one in (path, *loaders)})
    libraries = [str(path.parent.parent / name) for name in ("lib", "lib64", "share")]
    found = [*(landlock.path_rule(one, execute=True) for one in executables), *map(landlock.path_rule, libraries)]
    return tuple(rule for rule in found if rule is not None)


def _write_oom_score() -> None:
    file = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
    try:
        os.write(file, _OOM_SCORE.encode())
    finally:
        os.close(file)
