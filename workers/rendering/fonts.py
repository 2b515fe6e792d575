"""Scripts of letters, and whether an installed font has them."""

from __future__ import annotations

import asyncio
import subprocess
import unicodedata
from collections import Counter
from contextlib import suppress
from shutil import which
from typing import Final

_FC_LIST: Final = "fc-list"
_TIMEOUT_S: Final = 10.0
_SCRIPTS: Final = {"CJK": "Han", "IDEOGRAPHIC": "Han"}
PACKAGES: Final = {
    **dict.fromkeys(("Han", "Hiragana", "Katakana", "Hangul", "Bopomofo"), "fonts-noto-cjk"),
    **dict.fromkeys(("Cyrillic", "Greek"), "fonts-dejavu-core"),
}
"""Debian's package with a font of a script."""
OTHER_PACKAGE: Final = "fonts-noto-core"
SAMPLES: Final = "яλ海あ한עعกक"
"""A letter of each script that `pagemill doctor` asks for."""


def script_of(letter: str) -> str:
    """Such as "Cyrillic" or "Han", from the name of the character."""
    words = unicodedata.name(letter, "UNKNOWN").split()
    word = words[1] if words[0] in ("FULLWIDTH", "HALFWIDTH") and len(words) > 1 else words[0]
    word = word.split("-")[0]
    return _SCRIPTS.get(word, word.capitalize())


def package_for(script: str) -> str:
    return PACKAGES.get(script, OTHER_PACKAGE)


class InstalledFonts:
    """Asks fontconfig which scripts the installed fonts have. Answers are kept: fonts come with a restart."""

    def __init__(self) -> None:
        self._known: dict[str, bool] = {}

    async def missing_scripts(self, letters: str) -> list[str]:
        """The scripts of `letters` that no installed font has, the most frequent one first."""
        counts = Counter(script_of(letter) for letter in letters)
        samples = {script_of(letter): letter for letter in letters}
        return [script for script, _ in counts.most_common() if not await self._has(script, samples[script])]

    async def _has(self, script: str, sample: str) -> bool:
        if script not in self._known:
            self._known[script] = await has_font(sample)
        return self._known[script]


def scripts_without_font() -> list[str]:
    """The scripts of SAMPLES that no installed font has. Empty where fontconfig does not say."""
    program = which(_FC_LIST)
    if program is None:
        return []
    missing = []
    for letter in SAMPLES:
        command = [program, f":charset={ord(letter):x}", "family"]
        with suppress(OSError, subprocess.SubprocessError):
            if not subprocess.run(command, capture_output=True, timeout=_TIMEOUT_S, check=True).stdout.strip():
                missing.append(script_of(letter))
    return missing


async def has_font(letter: str) -> bool:
    """Whether an installed font has the letter. True where fontconfig does not say."""
    program = which(_FC_LIST)
    if program is None:
        return True
    try:
        process = await asyncio.create_subprocess_exec(
            program, f":charset={ord(letter):x}", "family",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        async with asyncio.timeout(_TIMEOUT_S):
            output, _ = await process.communicate()
    except (OSError, TimeoutError):
        return True
    return bool(output.strip())
