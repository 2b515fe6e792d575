"""In a confined child: run functions on its file, one after another, and send back the results."""

from __future__ import annotations

import os
import select
import socket
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from ingestion.sandbox.channel import Closed, receive, send
from ingestion.sandbox.failures import NOT_PLAIN, clean, code_of
from ingestion.sandbox.frames import BadFrame
from ingestion.sandbox.functions import import_function
from ingestion.sandbox.plain import NotPlain, all_from_plain, argument_kinds, signature, to_plain

_MAX_REQUEST_BYTES: Final = 64 * 1024**2
_READ_BYTES: Final = 1024**2


@dataclass(slots=True)
class _Parent:
    calls: socket.socket | None = None
    programs_cpu_s: float = 0.0


_parent: Final = _Parent()


def serve(calls: socket.socket) -> NoReturn:
    """Answer requests until the parent closes the socket, then end the process."""
    _parent.calls = calls
    send(calls, {"kind": "ready"})
    while True:
        try:
            request, blobs, _ = receive(calls, max_body_bytes=_MAX_REQUEST_BYTES)
        except (Closed, ConnectionError):
            os._exit(0)
        message, answer_blobs = _answer(request, blobs)
        send(calls, message | {"call": request["call"]}, answer_blobs)


def run_program(name: str, arguments: list[str]) -> tuple[bytes, bytes]:
    """Run a program and return what it wrote to stdout and stderr.

    The child cannot start a process. Its parent starts the program, confined like the child, where the call allows the
    program with these arguments. Raises OSError where it does not.
    """
    if _parent.calls is None:
        raise OSError("no program can be started outside a child")
    send(_parent.calls, {"kind": "program", "name": name, "arguments": arguments})
    answer, _, descriptors = receive(_parent.calls, max_body_bytes=0)
    if answer["kind"] != "started":
        raise OSError(f"{name} was not started")
    written = _read_all(descriptors)
    send(_parent.calls, {"kind": "ended"})
    answer, _, _ = receive(_parent.calls, max_body_bytes=0)
    _parent.programs_cpu_s += answer["cpu_s"]
    return written[0], written[1]


def programs_cpu_s() -> float:
    """CPU seconds of all programs that ran for this child."""
    return _parent.programs_cpu_s


def _read_all(descriptors: list[int]) -> list[bytes]:
    chunks: dict[int, list[bytes]] = {descriptor: [] for descriptor in descriptors}
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    open_ = set(descriptors)
    while open_:
        for descriptor, _ in poll.poll():
            if chunk := os.read(descriptor, _READ_BYTES):
                chunks[descriptor].append(chunk)
            else:
                poll.unregister(descriptor)
                os.close(descriptor)
                open_.remove(descriptor)
    return [b"".join(chunks[descriptor]) for descriptor in descriptors]


def _answer(request: dict[str, Any], blobs: list[bytes]) -> tuple[dict[str, Any], list[bytes]]:
    answer_blobs: list[bytes] = []
    try:
        function = import_function(request["module"], request["name"])
        kinds = argument_kinds(function, len(request["arguments"]))
        result = function(*all_from_plain(request["arguments"], kinds, blobs))
        value = to_plain(result, signature(function)[1], answer_blobs)
        return {"kind": "answer", "value": value}, answer_blobs
    except NotPlain as error:
        return {"kind": "error", "code": NOT_PLAIN, "message": clean(f"not plain data: {error}")}, []
    except BadFrame as error:
        return {"kind": "error", "code": NOT_PLAIN, "message": clean(str(error))}, []
    except Exception as error:  # noqa: BLE001 - every error of the function is reported to the parent
        code = code_of(error)
        message = str(error) if code != "other" else f"{type(error).__name__}: {error}"
        return {"kind": "error", "code": code, "message": clean(message)}, []
