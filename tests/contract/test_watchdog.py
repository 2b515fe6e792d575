"""A process that hangs ends itself. A process that works does not."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

TIMEOUT_S = 60.0


def run(body: str) -> subprocess.CompletedProcess[str]:
    """A process whose watchdog has a limit of half a second and whose main coroutine goes on with `body`."""
    code = f"""
import asyncio, time
from workers.runtime.watchdog import watch

polled_at = [time.monotonic()]

async def main():
    watching = asyncio.create_task(watch(lambda: polled_at[0], 0.5))
    await asyncio.sleep(0.1)
{textwrap.indent(textwrap.dedent(body), "    ")}
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    await asyncio.sleep(1.0)

asyncio.run(main())
"""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=TIMEOUT_S, check=False)


def test_a_process_that_works_goes_on_and_may_pause_after_the_watch() -> None:
    done = run(
        """
        for _ in range(15):
            polled_at[0] = time.monotonic()
            await asyncio.sleep(0.1)
        """
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("time.sleep(30)", id="the event loop is blocked"),
        pytest.param("__import__('re').match('(a+)+b', 'a' * 40)", id="with the interpreter's lock held"),
        pytest.param("await asyncio.sleep(30)", id="polling has stopped"),
    ],
)
def test_a_process_that_hangs_writes_its_stacks_and_ends_itself(body: str) -> None:
    done = run(body)
    assert done.returncode == 1
    assert "Timeout" in done.stderr
    assert "in main" in done.stderr or "select" in done.stderr
