"""Confines LibreOffice and runs it: `main` is the first code of the process that becomes LibreOffice's parent.

    worker -> launcher -> fork: process 1 of a namespace of process ids -> LibreOffice

Where the kernel allows namespaces, LibreOffice has no network, sees the folder of its run as /tmp, and ends with the
launcher, with all its processes. Where it has Landlock, LibreOffice reads the system's programs, libraries and fonts
and the folder of its run, and writes only to that folder. Limits of memory, CPU time and file sizes hold everywhere.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import sys
from contextlib import suppress
from typing import Any, Final, NoReturn

from ingestion.sandbox import landlock, namespaces
from ingestion.sandbox.libc import die_with_parent, prctl, unshare

_PR_SET_NO_NEW_PRIVS: Final = 38
_CLONE_NEWNS: Final = 0x00020000
_CLONE_NEWPID: Final = 0x20000000
_MS_REC_PRIVATE: Final = 0x4000 | 0x40000
_MS_BIND: Final = 0x1000
_EXECUTED: Final = ("/usr", "/lib", "/lib64", "/bin", "/nix/store", "/gnu/store")
_READ: Final = (
    "/etc/libreoffice", "/etc/fonts", "/etc/ld.so.cache", "/var/cache/fontconfig", "/var/spool/libreoffice",
    "/var/lib/libreoffice", "/dev/urandom",
)  # fmt: skip
_WRITABLE_DEVICES: Final = ("/dev/null",)
_TMP: Final = "/tmp"


def main() -> NoReturn:
    """Arguments: a JSON object with `worker`, `program`, `arguments`, `folder`, `report`, `memory_bytes`, `cpu_s`,
    `file_bytes`. `worker` is the id of the parent process.

    "{folder}" in the arguments becomes the folder as LibreOffice sees it. Writes the CPU seconds of LibreOffice to
    the file `report` and ends with its exit status.
    """
    request = json.loads(sys.argv[1])
    die_with_parent(request["worker"])
    folder = request["folder"]
    report = os.open(request["report"], os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    seen_folder, is_first = _isolate(folder)
    parent = 0 if is_first else os.getpid()  # as the child sees it: in a namespace of its own, it has no parent
    pid = os.fork()
    if pid == 0:
        try:
            os.close(report)
            _run(request, seen_folder, parent)
        except BaseException as error:  # noqa: BLE001 - the child must not return into this code
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
        finally:
            os._exit(127)
    _, status, used = os.wait4(pid, 0)
    os.write(report, f"{used.ru_utime + used.ru_stime:.3f}".encode())
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else 128 - code)


def _isolate(folder: str) -> tuple[str, bool]:
    """The folder's new name, and whether the next child is the first process of a namespace."""
    if not namespaces.enter():
        return folder, False
    try:
        unshare(_CLONE_NEWNS)
        _mount(None, "/", _MS_REC_PRIVATE)
        _mount(folder, _TMP, _MS_BIND)
        folder = _TMP
    except OSError:
        pass  # Landlock has the rules for the folder's own name
    try:
        unshare(_CLONE_NEWPID)
    except OSError:
        return folder, False
    return folder, True


def _mount(source: str | None, target: str, flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    arguments: tuple[Any, ...] = (source.encode() if source else None, target.encode(), None, ctypes.c_ulong(flags))
    if libc.mount(*arguments, None) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _run(request: dict[str, Any], folder: str, parent: int) -> NoReturn:
    die_with_parent(parent)
    if sys.platform == "linux":
        namespaces.drop_capabilities()
        prctl(_PR_SET_NO_NEW_PRIVS, 1)
        with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:  # noqa: PTH123
            file.write("1000")
    program = request["program"]
    _restrict(folder, program)
    for kind, value in (
        (resource.RLIMIT_AS, request["memory_bytes"]),
        (resource.RLIMIT_CPU, request["cpu_s"]),
        (resource.RLIMIT_FSIZE, request["file_bytes"]),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (value, value))
    os.chdir(folder)
    arguments = [one.replace("{folder}", folder) for one in request["arguments"]]
    os.execve(program, [program, *arguments], _environment(folder))


def _environment(folder: str) -> dict[str, str]:
    """The proxies lead nowhere: where the kernel has no namespaces, they stop HTTP clients that respect them."""
    nowhere = "http://127.0.0.1:9"
    return {
        "HOME": folder,
        "TMPDIR": folder,
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "SAL_USE_VCLPLUGIN": "svp",
        **dict.fromkeys(("http_proxy", "https_proxy", "ftp_proxy", "all_proxy"), nowhere),
    }


def _restrict(folder: str, program: str) -> None:
    abi = landlock.version()
    if not abi:
        return
    own = os.path.dirname(os.path.dirname(os.path.realpath(program)))  # noqa: PTH120
    rules = [landlock.path_rule(path, execute=True) for path in (*_EXECUTED, own)]
    rules += [landlock.path_rule(path) for path in _READ]
    rules += [landlock.write_rule(path, abi) for path in (*_WRITABLE_DEVICES, folder)]
    if folder != _TMP:  # LibreOffice makes a socket there, whatever TMPDIR says
        rules.append(landlock.socket_rule(_TMP))
    landlock.restrict(landlock.ruleset(abi, [rule for rule in rules if rule is not None]))
