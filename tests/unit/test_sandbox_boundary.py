"""Attacks on the machine from a child that a hostile file controls: one test for each."""

# ruff: noqa: PTH101, PTH102, PTH104, PTH108, PTH115, PTH123, PTH208, PTH211 - a child tries the system's calls
from __future__ import annotations

import ctypes
import mmap
import os
import platform
import resource
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ingestion.sandbox import landlock, seccomp
from ingestion.sandbox.failures import ChildCrashed, ChildFailed
from ingestion.sandbox.pool import Sandbox

LINUX = platform.system() == "Linux"
needs_landlock = pytest.mark.skipif(landlock.version() < 1, reason="the kernel has no Landlock")
needs_landlock_signals = pytest.mark.skipif(
    landlock.version() < 6 and not seccomp.is_available(), reason="the kernel neither scopes signals nor filters calls"
)
needs_seccomp = pytest.mark.skipif(not seccomp.is_available(), reason="the kernel has no seccomp filters")
needs_either = pytest.mark.skipif(
    landlock.version() < 1 and not seccomp.is_available(), reason="the kernel has neither Landlock nor seccomp"
)
needs_x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="machine code of x86-64")

libc = ctypes.CDLL(None, use_errno=True)
REFUSED = r"OSError|PermissionError|ValueError: not allowed|can't start new thread"


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def box() -> Sandbox:
    """One launcher for all attempts: a loop of its own would cost each test the start of another one."""
    return Sandbox(processes=1, memory_bytes=1024**3)


@pytest.fixture
def fresh_box() -> Sandbox:
    """For tests about what its launcher gets from this process."""
    return Sandbox(processes=1, memory_bytes=1024**3)


async def gets_nowhere(box: Sandbox, attempt: Callable[..., Any], *args: Any, file: Path | None = None) -> None:
    """Each attempt has a child of its own."""
    with pytest.raises(ChildFailed, match=REFUSED):
        await box.run(attempt, *args, timeout_s=30, file=file, keep=False)


def syscall(number: int, *args: int) -> int:
    result: int = libc.syscall(ctypes.c_long(number), *(ctypes.c_long(one) for one in args))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


# Secrets


def environment() -> dict[str, str]:
    return dict(os.environ)


async def test_the_environment_holds_nothing_of_the_parents(
    fresh_box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAGEMILL_S3_SECRET_KEY", "example-secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "example-secret")
    seen = await fresh_box.run(environment, timeout_s=30)
    ours = {"PATH", "LANG", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "PYTHONDONTWRITEBYTECODE"}
    assert set(seen) <= ours | {"LD_LIBRARY_PATH", "FONTCONFIG_FILE", "FONTCONFIG_PATH"}
    assert "example-secret" not in str(seen)


def reads(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(10)


def lists(path: str) -> int:
    return len(os.listdir(path))


@needs_landlock
@pytest.mark.parametrize("path", ["/etc/passwd", "/proc/self/environ", "/proc/self/maps", "/proc/1/cmdline"])
async def test_files_of_the_system_cannot_be_read(box: Sandbox, path: str) -> None:
    await gets_nowhere(box, reads, path)


@needs_landlock
async def test_the_parents_environment_cannot_be_read(box: Sandbox) -> None:
    await gets_nowhere(box, reads, f"/proc/{os.getpid()}/environ")


def reads_launchers_memory() -> bytes:
    return reads(f"/proc/{os.getppid()}/mem")


@needs_landlock
async def test_the_launchers_memory_cannot_be_read(box: Sandbox) -> None:
    await gets_nowhere(box, reads_launchers_memory)


@needs_landlock
async def test_of_the_files_of_users_only_the_one_is_read(box: Sandbox, tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours.pdf", tmp_path / "theirs.pdf"
    for path in (ours, theirs):
        path.write_bytes(b"%PDF-1.7")
    assert await box.run(reads, str(ours), timeout_s=30, file=ours) == b"%PDF-1.7"
    await gets_nowhere(box, reads, str(theirs), file=ours)
    await gets_nowhere(box, lists, str(tmp_path), file=ours)


async def test_every_file_gets_a_child_of_its_own(box: Sandbox, tmp_path: Path) -> None:
    paths = [tmp_path / "1.pdf", tmp_path / "2.pdf"]
    for path in paths:
        path.write_bytes(b"%PDF-1.7")
    first, same, second = [
        await box.run(os.getpid, timeout_s=30, file=path) for path in (paths[0], paths[0], paths[1])
    ]
    assert first == same != second
    paths[1].unlink()
    paths[1].write_bytes(b"%PDF-1.6")
    assert await box.run(reads, str(paths[1]), timeout_s=30, file=paths[1]) == b"%PDF-1.6"
    assert await box.run(os.getpid, timeout_s=30, file=paths[1]) != second


def open_descriptors() -> list[int]:
    found = []
    for number in range(256):
        try:
            os.fstat(number)
        except OSError:
            continue
        found.append(number)
    return found


async def test_no_descriptor_is_inherited(fresh_box: Sandbox, tmp_path: Path) -> None:
    with (tmp_path / "secret").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        assert await fresh_box.run(open_descriptors, timeout_s=30) == [0, 1, 2, 3]


# The network


def makes_socket(family: int, kind: int) -> None:
    socket.socket(family, kind).close()


@needs_seccomp
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6, socket.AF_UNIX], ids=["ipv4", "ipv6", "unix"])
@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM], ids=["stream", "datagram"])
async def test_no_socket_can_be_made(box: Sandbox, family: int, kind: int) -> None:
    await gets_nowhere(box, makes_socket, int(family), int(kind))


def connects(address: str, port: int) -> None:
    family = socket.AF_INET if port else socket.AF_UNIX
    with socket.socket(family) as sock:
        sock.connect((address, port) if port else address)


@pytest.mark.skipif(landlock.version() < 4 and not seccomp.is_available(), reason="nothing here denies TCP")
async def test_a_server_of_this_machine_cannot_be_reached(box: Sandbox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        await gets_nowhere(box, connects, "127.0.0.1", server.getsockname()[1])


@needs_seccomp
async def test_a_unix_socket_cannot_be_reached(box: Sandbox, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        server.listen()
        await gets_nowhere(box, connects, str(tmp_path / "s"), 0)


@needs_seccomp
async def test_an_abstract_unix_socket_cannot_be_reached(box: Sandbox) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"\0pagemill-test-{os.getpid()}")
        server.listen()
        await gets_nowhere(box, connects, f"\0pagemill-test-{os.getpid()}", 0)


# Files


def writes(path: str) -> None:
    with open(path, "ab", buffering=0) as file:
        file.write(b"x")


def removes(path: str) -> None:
    os.unlink(path)


def renames(path: str) -> None:
    os.rename(path, path + "2")


def links(path: str) -> None:
    os.symlink("/etc/passwd", path + "2")


def makes_folder(path: str) -> None:
    os.mkdir(path + "2")


def changes_mode(path: str) -> None:
    os.chmod(path, 0o777)


def changes_owner(path: str) -> None:
    os.chown(path, 1, 1)


def truncates(path: str) -> None:
    os.truncate(path, 0)


@needs_either
@pytest.mark.parametrize("folder", ["/tmp", "/dev/shm", "/var/tmp"])
async def test_no_file_can_be_made(box: Sandbox, folder: str) -> None:
    path = Path(folder) / f"pagemill-test-{os.getpid()}"
    await gets_nowhere(box, writes, str(path))
    assert not path.exists()


async def test_the_file_that_is_read_cannot_be_written(box: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(b"%PDF-1.7")
    await gets_nowhere(box, writes, str(path), file=path)
    assert path.read_bytes() == b"%PDF-1.7"


@needs_either
@pytest.mark.parametrize(
    "change",
    [
        removes,
        renames,
        links,
        makes_folder,
        truncates,
        pytest.param(changes_mode, marks=needs_seccomp),
        pytest.param(changes_owner, marks=needs_seccomp),
    ],
)
async def test_folders_cannot_be_changed(box: Sandbox, change: Callable[[str], None], tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(b"%PDF-1.7")
    await gets_nowhere(box, change, str(path), file=path)
    assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [("a.pdf", b"%PDF-1.7")]


# Processes


def forks() -> int:
    return os.fork()


def starts_thread() -> None:
    threading.Thread(target=print).start()


def clones() -> int:
    return syscall(56 if platform.machine() == "x86_64" else 220, signal.SIGCHLD, 0, 0, 0, 0)


def clones_by_the_newer_call() -> int:
    return syscall(435, 0, 0)


def executes() -> None:
    os.execv("/bin/true", ["true"])


@needs_seccomp
@pytest.mark.parametrize("attempt", [forks, starts_thread, clones, clones_by_the_newer_call])
async def test_no_process_and_no_thread_can_be_started(box: Sandbox, attempt: Callable[[], Any]) -> None:
    await gets_nowhere(box, attempt)


@needs_either
async def test_nothing_can_be_executed(box: Sandbox) -> None:
    await gets_nowhere(box, executes)


@needs_landlock_signals
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM, 0])
async def test_the_parent_cannot_be_signalled(box: Sandbox, number: int) -> None:
    await gets_nowhere(box, os.kill, os.getpid(), int(number))


def signals_launcher() -> None:
    os.kill(os.getppid(), signal.SIGKILL)


def signals_all() -> None:
    os.kill(-1, signal.SIGTERM)


@needs_landlock_signals
async def test_the_launcher_cannot_be_signalled(box: Sandbox) -> None:
    await gets_nowhere(box, signals_launcher)


@needs_seccomp
async def test_a_signal_to_all_processes_is_refused(box: Sandbox) -> None:
    await gets_nowhere(box, signals_all)


def has_signals_sent_for_it(pid: int) -> None:
    import fcntl

    fcntl.fcntl(3, fcntl.F_SETOWN, pid)


@needs_seccomp
async def test_the_kernel_sends_no_signals_for_it(box: Sandbox) -> None:
    await gets_nowhere(box, has_signals_sent_for_it, os.getpid())


# System calls by number: x86_64, aarch64
DANGEROUS = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    "io_uring_setup": (425, 425),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "mount": (165, 40),
    "fsopen": (430, 430),
    "open_tree": (428, 428),
    "unshare": (272, 97),
    "setns": (308, 268),
    "chroot": (161, 51),
    "pivot_root": (155, 41),
    "kexec_load": (246, 104),
    "init_module": (175, 105),
    "memfd_create": (319, 279),
    "execveat": (322, 281),
    "socketpair": (53, 199),
    "openat2": (437, 437),
    "seccomp": (317, 277),
    "setuid": (105, 146),
    "capset": (126, 91),
    "setpriority": (141, 140),
    "sched_setscheduler": (144, 119),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    "name_to_handle_at": (303, 264),
    "quotactl": (179, 60),
    "acct": (163, 89),
    "setrlimit": (160, 164),
}


@needs_seccomp
@pytest.mark.parametrize("name", DANGEROUS)
async def test_a_call_that_no_reader_of_pdfs_needs_is_refused(box: Sandbox, name: str) -> None:
    number = DANGEROUS[name][0 if platform.machine() == "x86_64" else 1]
    with pytest.raises(ChildFailed, match="Function not implemented"):
        await box.run(syscall, number, 0, 0, 0, 0, timeout_s=30, keep=False)


def makes_call_of_32_bits() -> None:
    code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(b"\xb8\x14\x00\x00\x00\xcd\x80\xc3")  # mov eax, 20; int 0x80; ret
    ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()


@needs_seccomp
@needs_x86
async def test_calls_of_another_architecture_end_the_process(box: Sandbox) -> None:
    with pytest.raises(ChildCrashed, match=r"died of SIG(SYS|SEGV)"):  # SEGV: no such calls in the kernel
        await box.run(makes_call_of_32_bits, timeout_s=30)


@needs_seccomp
@needs_x86
async def test_calls_of_the_x32_kind_are_refused(box: Sandbox) -> None:
    with pytest.raises(ChildFailed, match="Function not implemented"):
        await box.run(syscall, 0x40000000 + 41, int(socket.AF_UNIX), int(socket.SOCK_STREAM), 0, timeout_s=30)


# Limits

LIMITS = ["RLIMIT_AS", "RLIMIT_CPU", "RLIMIT_FSIZE", "RLIMIT_NOFILE", "RLIMIT_NPROC", "RLIMIT_CORE"]


def lifts(limit: str) -> None:
    kind = getattr(resource, limit)
    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (hard + 1, hard + 1))


def limit_of(limit: str) -> list[int]:
    return list(resource.getrlimit(getattr(resource, limit)))


@pytest.mark.parametrize("limit", LIMITS)
async def test_limits_are_there_and_cannot_be_lifted(box: Sandbox, limit: str) -> None:
    soft, hard = await box.run(limit_of, limit, timeout_s=30)
    assert 0 <= soft == hard < 2**40
    await gets_nowhere(box, lifts, limit)


def opens_many(path: str) -> int:
    return len([open(path, "rb") for _ in range(1000)])


async def test_open_files_have_a_limit(box: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(b"%PDF-1.7")
    with pytest.raises(ChildFailed, match="Too many open files"):
        await box.run(opens_many, str(path), timeout_s=30, file=path)


@pytest.mark.skipif(not LINUX, reason="Linux says it in /proc")
async def test_the_kernel_says_that_a_child_has_no_rights_and_can_get_none(box: Sandbox) -> None:
    pid = await box.run(os.getpid, timeout_s=30)
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    status = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
    assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {0}
    assert status["NoNewPrivs"] == "1"
    assert status["Threads"] == "1"
    if seccomp.is_available():
        assert status["Seccomp"] == "2"


@pytest.mark.skipif(not LINUX, reason="Linux has namespaces")
async def test_a_child_has_a_network_of_its_own_where_the_system_allows_it(box: Sandbox) -> None:
    protections = await box.start()
    pid = await box.run(os.getpid, timeout_s=30)
    for name in ("user", "net", "ipc"):
        is_own = os.readlink(f"/proc/{pid}/ns/{name}") != os.readlink(f"/proc/self/ns/{name}")
        assert is_own is protections.namespaces
