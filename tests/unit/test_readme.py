"""The statements of the README, compared with the project."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
README: Final = (ROOT / "README.md").read_text("utf-8")


def test_the_command_that_ci_runs_is_the_one_of_the_readme() -> None:
    assert "\nmake test\n" in (ROOT / ".ci/run").read_text("utf-8")
    assert "\nmake test\n" in README


def test_the_readme_can_be_read_in_five_minutes() -> None:
    assert len(README.splitlines()) <= 150


def test_the_version_has_an_entry_in_the_changelog() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    released = re.findall(r"^## (\S+) - \d{4}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert released[0] == project["version"]


def test_the_images_of_compose_carry_the_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    images = re.findall(r"image: pagemill:(\S+)", (ROOT / "docker-compose.yml").read_text("utf-8"))
    assert {image.removesuffix("-gpu").removesuffix("-slim") for image in images} == {project["version"]}
