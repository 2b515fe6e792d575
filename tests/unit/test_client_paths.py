"""From the arguments of `pagemill ingest` to files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ingestion.errors import BadRequest
from workers.commands.documents.paths import expand


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"%PDF-")
    return path


@pytest.mark.parametrize("name", ["two words.pdf", 'it\'s "quoted".pdf', "a[1]*?.pdf", "📄 résumé.pdf", "-dash.pdf"])
def test_a_name_with_special_characters_is_taken_literally(tmp_path: Path, name: str) -> None:
    wanted = touch(tmp_path / name)
    touch(tmp_path / "a1.pdf")
    assert expand([str(wanted)]) == [wanted]


def test_a_name_that_is_not_utf8_is_found_in_a_folder(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/caf\xe9.pdf"
    try:
        Path(os.fsdecode(raw)).touch()
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    assert [os.fsencode(path) for path in expand([str(tmp_path)])] == [raw]


def test_a_folder_gives_its_documents_in_any_case_and_depth_and_nothing_else(tmp_path: Path) -> None:
    wanted = [touch(tmp_path / name) for name in ("a.PDF", "a.docx", "b/c.Pdf", "b/d/e.pdf", "b/d/photo.JPEG")]
    touch(tmp_path / "notes.txt")
    touch(tmp_path / "apdf")
    (tmp_path / "folder.pdf").mkdir()
    assert expand([str(tmp_path)]) == wanted


def test_a_file_named_outright_needs_no_pdf_suffix(tmp_path: Path) -> None:
    scan = touch(tmp_path / "scan")
    assert expand([str(scan)]) == [scan]


def test_globs_are_expanded_with_double_stars_and_take_only_pdfs(tmp_path: Path) -> None:
    wanted = {touch(tmp_path / name) for name in ("x/1.pdf", "x/y/2.pdf")}
    touch(tmp_path / "x/y/2.txt")
    assert set(expand([f"{tmp_path}/**/*.pdf"])) == wanted
    assert set(expand([f"{tmp_path}/x/**"])) == wanted
    assert set(expand([f"{tmp_path}/?/y/2.*"])) == {tmp_path / "x/y/2.pdf"}


def test_a_relative_glob_starts_at_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "in/1.pdf")
    monkeypatch.chdir(tmp_path)
    assert expand(["in/*.pdf"]) == [Path("in/1.pdf")]


def test_loops_of_links_end_and_every_file_comes_once(tmp_path: Path) -> None:
    wanted = touch(tmp_path / "a/1.pdf")
    (tmp_path / "a/back").symlink_to(tmp_path)
    (tmp_path / "z").symlink_to(tmp_path / "a")
    (tmp_path / "a/again.pdf").symlink_to(wanted)
    (tmp_path / "a/self.pdf").symlink_to(tmp_path / "a/self.pdf")
    assert expand([str(tmp_path), str(wanted), f"{tmp_path}/**/*.pdf"]) == [wanted]


def test_a_linked_folder_is_followed(tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere/1.pdf")
    (tmp_path / "shelf").mkdir()
    (tmp_path / "shelf/link").symlink_to(tmp_path / "elsewhere")
    assert expand([str(tmp_path / "shelf")]) == [tmp_path / "shelf/link/1.pdf"]


def test_an_argument_without_files_is_named_in_the_error(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe.pdf")
    (tmp_path / "dangling.pdf").symlink_to(tmp_path / "gone")
    for argument in ("missing.pdf", "empty", "pipe.pdf", "dangling.pdf", "no*.pdf"):
        with pytest.raises(BadRequest, match=argument.replace("*", r"\*")):
            expand([str(tmp_path / argument)])


def test_one_wrong_argument_stops_all(tmp_path: Path) -> None:
    good = touch(tmp_path / "good.pdf")
    with pytest.raises(BadRequest, match="typo"):
        expand([str(good), str(tmp_path / "typo.pdf")])


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_a_folder_that_cannot_be_read_is_an_error_and_not_skipped(tmp_path: Path) -> None:
    touch(tmp_path / "good.pdf")
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o000)
    with pytest.raises(BadRequest, match="locked"):
        expand([str(tmp_path)])
    locked.chmod(0o700)
