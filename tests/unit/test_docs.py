"""Files, commands, settings, modules and codes in the docs, compared with the project."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import typer
import yaml

from ingestion import errors
from ingestion.api.problems import status_of
from ingestion.settings import SECTIONS
from tests.support.markdown import Page
from tests.support.reference_pages import ROOT, error_classes
from workers.cli import app

PAGES: Final = [
    Page(path)
    for path in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("deploy/**/*.md")])
    if path.is_file()
]
_COMPOSE: Final = (ROOT / "docker-compose.yml").read_text("utf-8") + (ROOT / ".env.example").read_text("utf-8")
_OTHER_VARIABLES: Final = {"PAGEMILL_TEST_STACK"}
_OWN_PACKAGES: Final = ("ingestion", "workers", "tests")

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.path.relative_to(ROOT)))


@each_page
def test_links_lead_somewhere(page: Page) -> None:
    assert [link for link in page.links() if not _leads_somewhere(page, link)] == []


@each_page
def test_commands_and_their_options_exist(page: Page) -> None:
    assert [line for line in page.code() for command in _commands_in(line) if not _is_command(command)] == []


@each_page
def test_settings_exist(page: Page) -> None:
    settings = {f"PAGEMILL_{name.upper()}" for section in SECTIONS for name in section.model_fields}
    found = re.findall(r"\bPAGEMILL_[A-Z0-9_]*[A-Z0-9]\b(?!_)", page.text)
    named = {name if name in settings else name.removesuffix("_FILE") for name in found}  # each has a file beside it
    assert {name for name in named - settings - _OTHER_VARIABLES if name not in _COMPOSE} == set()


@each_page
def test_files_exist(page: Page) -> None:
    tops = ("ingestion/", "workers/", "tests/", "deploy/", "docs/", ".ci/")
    named = {code.split()[0] for code in page.code() if code.startswith(tops)}
    assert {name for name in named if not (ROOT / name.rstrip("/,")).exists()} == set()


@each_page
def test_modules_exist(page: Page) -> None:
    pattern = rf"\b(?:{'|'.join(_OWN_PACKAGES)})(?:\.\w+)+"
    named = {name for code in page.code() for name in re.findall(pattern, code)}
    assert {name for name in named if not _is_module_or_member(name)} == set()


@each_page
def test_make_targets_exist(page: Page) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = {target for code in page.code() for target in re.findall(r"^make ([a-z-]+)", code.strip())}
    assert named - targets == set()


def test_the_alerts_of_the_runbook_are_those_of_prometheus() -> None:
    groups = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text("utf-8"))["groups"]
    text = (ROOT / "docs/runbook.md").read_text("utf-8")
    entries = dict(re.findall(r"^### (Pagemill\w+)\n(.*?)(?=^### |\Z)", text, re.MULTILINE | re.DOTALL))
    rules = {rule["alert"]: rule for group in groups for rule in group["rules"]}
    assert sorted(entries) == sorted(rules)
    for name, entry in entries.items():
        assert re.findall(r"^\*\*(\w[\w ]*):\*\*", entry, re.MULTILINE) == ["Means", "Look at", "Do"], name
        assert re.search(r"`[^`]+`|]\(#", entry.partition("**Look at:**")[2]), f"{name} names no command"
        assert rules[name]["annotations"]["runbook_url"] == f"docs/runbook.md#{name.lower()}"


def test_the_statuses_of_the_api_are_those_of_the_code() -> None:
    of_code = {kind.code: status_of(kind.__new__(kind)) for kind in error_classes()}
    rows = re.findall(r"^\| (\d{3}) \| (.*) \|$", (ROOT / "docs/http-api.md").read_text("utf-8"), re.MULTILINE)
    named = {code: int(status) for status, codes in rows for code in re.findall(r"`([a-z_]+)`", codes)}
    known = {code: status for code, status in named.items() if code in of_code}
    assert len(known) > 15
    # A request that the framework refuses is `bad_request` with 422; an error of the caller's own is 400.
    assert {code: of_code[code] for code in known if code != errors.BadRequest.code} == {
        code: status for code, status in known.items() if code != errors.BadRequest.code
    }


def test_the_tree_of_the_architecture_page_is_that_of_the_code() -> None:
    text = (ROOT / "docs/architecture.md").read_text("utf-8").partition("## Code")[2]
    missing, top = [], ROOT
    for line in re.findall(r"^```\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[0].splitlines():
        indent, names = re.fullmatch(r"(\s*)(\S+(?: \S+)*)(?:\s{2,}.*)?", line).groups()  # type: ignore[union-attr]
        base = top if indent else ROOT
        missing += [name for name in re.split(r",? ", names) if not (base / name).exists()]
        top = top if indent else ROOT / names
    assert missing == []


def _leads_somewhere(page: Page, link: str) -> bool:
    if re.match(r"https?://", link):
        return True
    name, _, anchor = link.partition("#")
    target = (page.path.parent / name).resolve() if name else page.path
    return target.exists() and (not anchor or anchor in Page(target).anchors())


def _commands_in(code: str) -> Iterator[str]:
    """What follows `pagemill` where a command line names the program: `pagemill dlq list --code C`."""
    if match := re.search(r"(?:^|[\s/$(])pagemill ([a-z-].*)", code):
        yield match[1].partition(" #")[0]


def _is_command(line: str) -> bool:
    """Each word up to the first that is an argument is a command, and each option is one of it."""
    root: Any = typer.main.get_command(app)
    nodes, words = [root], iter(re.sub(r"[\[\]()…,;]", " ", line).split())
    options = []
    for word in words:
        if word.startswith("-"):
            options.append(word.split("=")[0].split("|")[0])
            break
        if not all(hasattr(node, "commands") for node in nodes):
            break
        names = word.split("|")
        if any(name not in node.commands for node in nodes for name in names):
            return False
        nodes = [node.commands[name] for node in nodes for name in names]
    options += [word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)]
    known = {name for node in nodes for parameter in node.params for name in (*parameter.opts, "--help")}
    return not options or set(options) <= known | {"--help"}


def _is_module_or_member(name: str) -> bool:
    path, *rest = name.split(".")
    at: Path = ROOT / path
    while rest and ((at / rest[0]).is_dir() or (at / f"{rest[0]}.py").is_file()):
        at = at / rest.pop(0) if (at / rest[0]).is_dir() else at / f"{rest.pop(0)}.py"
    source = at if at.suffix == ".py" else at / "__init__.py"
    return len(rest) <= 2 and all(re.search(rf"\b{one}\b", source.read_text("utf-8")) for one in rest)
