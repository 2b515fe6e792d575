"""Which protections of this system hold the children that read PDFs: one is started in order to see."""

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
    """One line for each protection; missing ones are warnings: limits and the empty environment hold everywhere."""
    sandbox = Sandbox(processes=1, memory_bytes=_MEMORY_BYTES, log_protections=False)
    try:
        protections = await sandbox.start()
        await sandbox.run(abs, -1, timeout_s=_CPU_S)
    except (IngestError, ChildCrashed, ChildTimeout) as error:
        return [CheckResult("PDF children", CheckStatus.MISSING, f"none can be started: {error}")]
    finally:
        sandbox.close()
    return protection_results(protections)


def protection_results(protections: Protections) -> list[CheckResult]:
    landlock = f"version {protections.landlock}: they read the one file, and write none"
    return [
        _result("PDF children: limits", True, "memory, CPU time, files, processes; an empty environment", ""),
        _result(
            "PDF children: Landlock",
            bool(protections.landlock),
            landlock if protections.landlock else "the kernel has none: they can read what this user can",
            "Linux 5.13 or later, with landlock in its list of security modules (lsm=)",
        ),
        _result(
            "PDF children: seccomp",
            protections.seccomp,
            "no socket, no process, nothing to write"
            if protections.seccomp
            else "none here: they can make sockets and processes",
            "Linux on x86-64 or arm64",
        ),
        _result(
            "PDF children: namespaces",
            protections.namespaces,
            "a user and a network of their own"
            if protections.namespaces
            else "the system allows none; Landlock and seccomp hold them",
            "allow user namespaces: sysctl kernel.unprivileged_userns_clone, "
            "kernel.apparmor_restrict_unprivileged_userns; in a container, its seccomp profile",
        ),
    ]


def _result(name: str, is_on: bool, detail: str, remedy: str) -> CheckResult:
    return CheckResult(name, CheckStatus.OK, detail) if is_on else CheckResult(name, CheckStatus.WARN, detail, remedy)
