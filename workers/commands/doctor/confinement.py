"""Check of the protections that confine the children that read PDFs. The check starts one child."""

from __future__ import annotations

from typing import Final

from ingestion.errors import IngestError
from ingestion.sandbox.confine import Protections
from ingestion.sandbox.failures import ChildCrashed, ChildTimeout
from ingestion.sandbox.pool import Sandbox
from workers.commands.doctor.checks import CheckResult, CheckStatus

_MEMORY_BYTES: Final = 1024**3
_CPU_S: Final = 10.0


async def check_confinement() -> list[CheckResult]:
    """Returns one result per protection.

    A missing protection is a warning, because limits and the empty environment apply on every system.
    """
    sandbox = Sandbox(processes=1, memory_bytes=_MEMORY_BYTES, log_protections=False)
    try:
        protections = await sandbox.start()
        await sandbox.run(abs, -1, timeout_s=_CPU_S)
    except (IngestError, ChildCrashed, ChildTimeout) as error:
        return [CheckResult("PDF children", CheckStatus.MISSING, f"no child starts: {error}")]
    finally:
        sandbox.close()
    return protection_results(protections)


def protection_results(protections: Protections) -> list[CheckResult]:
    landlock = f"version {protections.landlock}: children read only their file and write no file"
    return [
        _result("PDF children: limits", True, "memory, CPU time, files, processes; an empty environment", ""),
        _result(
            "PDF children: Landlock",
            bool(protections.landlock),
            landlock
            if protections.landlock
            else "the kernel has no Landlock: children can read all files of this user",
            "Linux 5.13 or later, with landlock in its list of security modules (lsm=)",
        ),
        _result(
            "PDF children: seccomp",
            protections.seccomp,
            "children open no socket, start no process and open no file for writing"
            if protections.seccomp
            else "no seccomp on this system: children can open sockets and start processes",
            "Linux on x86-64 or arm64",
        ),
        _result(
            "PDF children: namespaces",
            protections.namespaces,
            "children have their own user and network namespaces"
            if protections.namespaces
            else "the system allows no user namespaces; the other protections still apply",
            "allow user namespaces: sysctl kernel.unprivileged_userns_clone, "
            "kernel.apparmor_restrict_unprivileged_userns; in a container, its seccomp profile",
        ),
    ]


def _result(name: str, is_on: bool, detail: str, remedy: str) -> CheckResult:
    return CheckResult(name, CheckStatus.OK, detail) if is_on else CheckResult(name, CheckStatus.WARN, detail, remedy)
