"""Answers of a render child are checked against the request, and poppler runs only with the expected arguments."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pdf2image.pdf2image
import pytest

from ingestion.sandbox.failures import ChildCrashed
from workers.rendering import poppler
from workers.rendering.answers import check_answer, max_answer_bytes
from workers.rendering.dpi import PagePlan
from workers.rendering.render_child import STAGES, RenderedPage, RenderRequest, RenderResult

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(20)
JPEG = b"\xff\xd8\xff\xe0" + bytes(20)
REQUEST = RenderRequest(
    path="/a.pdf",
    pages=(PagePlan(1, 72, 4, 3), PagePlan(2, 72, 4, 3)),
    engine="pdfium",
    image_format="auto",
    image_quality=85,
    max_text_chars=10,
    with_pixels=True,
)
PAGE = RenderedPage(4, 3, PNG, "png", "text", bytes(36))


def result(**changes: Any) -> RenderResult:
    return replace(RenderResult({1: PAGE}, {2: "damaged"}, dict.fromkeys(STAGES, 0.1)), **changes)


def test_an_answer_that_matches_the_request_is_accepted() -> None:
    assert check_answer(result(), REQUEST) == result()
    for pixels in (bytes(12), bytes(36)):  # without colour, and with
        assert check_answer(result(pages={1: replace(PAGE, pixels=pixels)}), REQUEST)
    wider = replace(PAGE, image=JPEG, image_format="jpeg", width_px=5, pixels=bytes(15))  # engines round differently
    assert check_answer(result(pages={1: wider}), REQUEST)
    assert max_answer_bytes(REQUEST) > 2 * (len(PNG) + 36)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"pages": {}}, id="a page missing"),
        pytest.param({"refused": {2: "x", 3: "x"}}, id="a page that was not requested"),
        pytest.param({"cpu_s": {}}, id="no times"),
        pytest.param({"cpu_s": dict.fromkeys((*STAGES, "x"), 0.1)}, id="a stage too many"),
        pytest.param({"cpu_s": dict.fromkeys(STAGES, -1.0)}, id="negative time"),
        pytest.param({"cpu_s": dict.fromkeys(STAGES, float("inf"))}, id="endless time"),
        *(
            pytest.param({"pages": {1: replace(PAGE, **fault)}}, id=name)
            for name, fault in {
                "another width": {"width_px": 400},
                "no height": {"height_px": 0, "pixels": b""},
                "too much text": {"text": "x" * 11},
                "control characters": {"text": "a\x00b"},
                "no image": {"image": b""},
                "a web page": {"image": b"<html><script>"},
                "another format": {"image_format": "jpeg"},
                "no pixels": {"pixels": None},
                "too few pixels": {"pixels": bytes(35)},
                "pixels of another size": {"pixels": bytes(48)},
            }.items()
        ),
    ],
)
def test_an_answer_that_does_not_match_the_request_is_a_crash(changes: dict[str, Any]) -> None:
    with pytest.raises(ChildCrashed):
        check_answer(result(**changes), REQUEST)


def test_an_answer_must_have_the_requested_format_and_pixels() -> None:
    assert check_answer(result(), replace(REQUEST, image_format="png"))
    with pytest.raises(ChildCrashed):
        check_answer(result(), replace(REQUEST, image_format="webp"))
    with pytest.raises(ChildCrashed):
        check_answer(result(), replace(REQUEST, with_pixels=False))


@pytest.mark.skipif(not poppler.is_installed(), reason="poppler is not installed")
def test_poppler_may_run_only_on_its_file_with_the_expected_arguments() -> None:
    programs = poppler.programs("/a.pdf")
    assert programs["pdfinfo"].allows(["/a.pdf"])
    pdftoppm = programs["pdftoppm"].allows
    good = ["-r", "72.5", "/a.pdf", "-cropbox", "-f", "1", "-l", "8"]
    assert pdftoppm(["-v"])
    assert pdftoppm(good)
    assert not programs["pdfinfo"].allows(["/b.pdf"])
    assert not programs["pdfinfo"].allows(["/a.pdf", "-upw", "x"])
    for index, other in ((1, "-1"), (1, "72\n"), (2, "/b.pdf"), (2, "-h"), (5, "-png"), (5, "١"), (7, "8x")):
        assert not pdftoppm([*good[:index], other, *good[index + 1 :]])
    assert not pdftoppm([*good, "/tmp/out"])
    assert not pdftoppm([])


def test_pdf2image_starts_every_process_with_the_popen_that_poppler_replaces(monkeypatch: pytest.MonkeyPatch) -> None:
    """A release of pdf2image that starts processes in another way fails here."""
    calls: list[str] = []

    def run_program(program: str, arguments: list[str]) -> tuple[bytes, bytes]:
        calls.append(program)
        if program == "pdfinfo":
            return b"Pages: 1\n", b""
        return (b"", b"pdftoppm version 24.02.0\n") if arguments == ["-v"] else (b"P6\n1 1\n255\n\1\2\3", b"")

    monkeypatch.setattr(pdf2image.pdf2image, "Popen", pdf2image.pdf2image.Popen)  # type: ignore[attr-defined]
    monkeypatch.setattr(poppler, "run_program", run_program)
    [image] = poppler.render_range("/missing.pdf", 1, 1, 72)
    assert image.getpixel((0, 0)) == (1, 2, 3)
    assert set(calls) == {"pdfinfo", "pdftoppm"}
