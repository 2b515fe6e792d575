"""The steps and sections of a report, and how the time is shared among them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Self


class Section(StrEnum):
    """In the order in which they run, in each step for the model in one precision."""

    LOAD = "load"
    SELF_TEST = "self_test"
    BATCHES = "batches"
    MEMORY = "out_of_memory"
    BATCHER = "batcher"
    LOOP = "obvious_loop"
    QUERIES = "queries"
    WORKER = "worker"
    LEVERS = "levers"


_WEIGHTS: Final = {
    Section.LOAD: 4.0,
    Section.SELF_TEST: 0.5,
    Section.BATCHES: 5.0,
    Section.MEMORY: 2.0,
    Section.BATCHER: 3.0,
    Section.LOOP: 2.0,
    Section.QUERIES: 2.0,
    Section.WORKER: 5.0,
    Section.LEVERS: 6.0,
}
"""Shares of the time. A section that ends early leaves its rest to those that follow."""


MODEL_NAMES: Final = ("colqwen2", "colpali", "colmodernvbert", "neomme")
"""`architectures.ARCHITECTURES` without torch."""

LEVER_NAMES: Final = (
    "compile-vision",
    "cuda-graphs",
    "copy-stream",
    "device-resize",
    "flash-attention",
    "sdpa",
    "eager-attention",
)
"""`levers.LEVERS` without torch."""


@dataclass(frozen=True, slots=True)
class Options:
    """`model`: the name of a family, built with random weights, or the folder of a checkpoint.

    `largest`: most pages of a batch. `repeats`: batches of each size.
    """

    model: str
    device: str
    precisions: tuple[str, ...]
    levers: tuple[str, ...] = ()
    largest: int = 64
    repeats: int = 3

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, fields: dict[str, Any]) -> Self:
        return cls(**{**fields, "precisions": tuple(fields["precisions"]), "levers": tuple(fields["levers"])})

    @property
    def is_random(self) -> bool:
        """The weights are made for the report."""
        return not Path(self.model).is_dir()

    @property
    def sections(self) -> tuple[Section, ...]:
        return tuple(section for section in Section if section is not Section.LEVERS or self.levers)


@dataclass(frozen=True, slots=True)
class Step:
    """What one child process does: the machine and the checkpoint, or the model in one precision."""

    precision: str = ""

    @property
    def name(self) -> str:
        return self.precision or "machine"

    def sections(self, options: Options) -> list[str]:
        """Names of all its lines."""
        if self.precision:
            return [section.value for section in options.sections]
        return ["machine", "matrix_rate", *(["checkpoint"] if options.is_random else [])]


def steps_of(options: Options) -> list[Step]:
    return [Step(), *(Step(precision) for precision in options.precisions)]


def share_s(section: Section, following: tuple[Section, ...], left_s: float) -> float:
    """Seconds for `section`, of `left_s` for it and the sections `following` in the same step."""
    total = _WEIGHTS[section] + sum(_WEIGHTS[other] for other in following)
    return max(0.0, left_s) * _WEIGHTS[section] / total


def checkpoint_folder(out: Path) -> Path:
    """Where random weights lie while the report is made."""
    return out / "random-weights"
