"""A program: ask the kernel for a signal at the end of the parent process, then become another program.

    python -I -S die_with_parent.py SIGNAL PARENT_PID PROGRAM ARGUMENT...

It takes the place of a `preexec_fn`. A `preexec_fn` makes Python use fork in place of vfork.
The fork handlers of gRPC then run in the child, and end it with SIGABRT if another thread uses gRPC.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def main() -> None:
    number, parent_pid, *program = sys.argv[1:]
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
    if os.getppid() != int(parent_pid):  # the parent died before it could be watched
        sys.exit(1)
    os.execvp(program[0], program)


if __name__ == "__main__":
    main()
