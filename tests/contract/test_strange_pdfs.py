"""PDFs that people upload and engines misread: all of their text is drawn and found, or the document says what is not.

The files in tests/samples/cases come from public bug reports. The others are variants of the same kinds.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pikepdf
import pytest

from ingestion.errors import CorruptPdf, EncryptedPdf, PermanentError
from ingestion.model import Note, Page
from ingestion.search.snippets import snippet
from ingestion.settings import RenderSettings
from tests.support.strange_pdfs import Strange, form, layered, packed, shown, stream, widget, with_astray_entry
from workers.rendering import fonts, poppler
from workers.rendering.renderer import PdfRenderer

pytestmark = pytest.mark.asyncio(loop_scope="module")

CASES = Path(__file__).parent.parent / "samples" / "cases"
VALUE = "Quarterback Lindqvist"


class Seen(NamedTuple):
    pages: list[Page]
    notes: tuple[Note, ...]

    @property
    def text(self) -> str:
        return "\n".join(page.text for page in self.pages)

    @property
    def kinds(self) -> set[str]:
        return {note.kind for note in (*self.notes, *(note for page in self.pages for note in page.notes))}


class Reader:
    def __init__(self, folder: Path) -> None:
        settings = RenderSettings(dpi_policy="fixed", fixed_dpi=72)
        self.renderer = PdfRenderer(settings, max_pages=1000)
        self.folder = folder

    async def __call__(self, content: bytes) -> Seen:
        path = self.folder / "source.pdf"
        path.write_bytes(content)
        source = await self.renderer.open(path, pixels=False, caller="c")
        return Seen([page async for window in source.windows(1) for page in window], source.notes)


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    return Reader(tmp_path_factory.mktemp("strange"))


LINES = "The ship entered the harbour of Lisbon with marketbased pricing"
ASTRAY = "Contents entry is astray \nbour of Lisbon with marketbased pricing"


@pytest.mark.parametrize(
    ("name", "text", "kinds"),
    [
        ("annotation-hidden", "Draft contract", set()),
        ("count-too-large", "Count lies upward", set()),
        ("cropbox-outside", "Crop box elsewhere", set()),
        ("first-page-broken", "\nSecond page survives", {"damaged_page"}),
        ("form-orphan-widget", f"Name of the applicant\n{VALUE}", set()),
        ("form-value-no-appearance", f"Name of the applicant\n{VALUE}", set()),
        ("form-value-with-appearance", f"Name of the applicant\n{VALUE}", set()),
        ("freetext-with-appearance", "Draft contract\nReject clause seventeen", set()),
        ("hyphen-cyrillic", "Лоцман вышел из гавани на рассвете, и человеческий фактор учтён", set()),
        ("hyphen-line-end", LINES, set()),
        ("invisible-ocr", "Invisible recognised wording", set()),
        ("junk-1100-before-header", LINES, set()),
        ("layer-off", "Layer shown English", set()),
        ("lig-tounicode-zero", "difficult and efficient", set()),
        ("middle-page-broken", "Page one survives\n\nPage one survives", {"damaged_page"}),
        ("mixed-sizes", "First sheet normal\nFirst sheet normal\nThird sheet odd rotation", set()),
        ("no-contents", "", set()),
        ("owner-only-R6", LINES, set()),
        ("portfolio", LINES, {"attached_file"}),
        ("rotate450", "Turned sheet wording", set()),
        ("rotate90", "Turned sheet wording", set()),
        ("rtl-arabic-shaped", "الإنتاجية والأسباب\nهذا سؤال", set()),
        ("rtl-hebrew-visual", "דוח רבעוני\nReport 2024", set()),
        ("strip-wide", "Receipt strip", set()),
        ("tounicode-high-surrogate", "Harbour master ecient pilot", set()),
        ("tounicode-nul", "Harbour master ecient pilot", set()),
        ("truncated-60", LINES, set()),
        ("userunit-10", "Plan sheet with user unit ten", set()),
        ("xfa-dynamic", "Please wait... If this message is not eventually replaced", {"xfa_form"}),
        ("xref-contents-astray", ASTRAY, set()),
        ("xref-page-astray", ASTRAY, set()),
    ],
)
async def test_cases(read: Reader, name: str, text: str, kinds: set[str]) -> None:
    seen = await read((CASES / f"{name}.pdf").read_bytes())
    assert seen.text == text
    assert seen.kinds == kinds


@pytest.mark.parametrize(("name", "query"), [("snippet-japanese", "水先案内人"), ("snippet-short-words", "AC 7B")])
async def test_a_snippet_shows_the_place_of_the_query(read: Reader, name: str, query: str) -> None:
    text = (await read((CASES / f"{name}.pdf").read_bytes())).text
    assert query not in " ".join(text.split())[:240]
    assert query in snippet(text, query)


async def test_a_user_unit_multiplies_the_size(read: Reader) -> None:
    [page] = (await read((CASES / "userunit-10.pdf").read_bytes())).pages
    assert (page.width_px, page.height_px) == (850, 1100)


@pytest.mark.parametrize("script", ["cyrillic", "greek"])
@pytest.mark.skipif(not poppler.is_installed(), reason="poppler is not installed")
async def test_letters_of_a_font_that_is_not_in_the_file_are_drawn(read: Reader, script: str) -> None:
    seen = await read((CASES / f"font-{script}-not-embedded.pdf").read_bytes())
    assert seen.kinds == ({"missing_font"} if script.capitalize() in fonts.scripts_without_font() else set())
    assert len(seen.pages[0].image) > 700, "a blank page of this size takes 300 bytes"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("cjk-chinese-not-embedded", "港口引航员在黎明时出发。\n第三章 安全管理"),
        ("cjk-japanese-not-embedded", "港の水先案内人は夜明けに出航した。\n第三章 安全管理"),
        ("cjk-japanese-vertical", "港の水先案内人は\n夜明けに出航した"),
    ],
)
async def test_letters_that_no_font_has_are_found_and_named(
    read: Reader, monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    async def nothing(letter: str) -> bool:
        return False

    monkeypatch.setattr(fonts, "has_font", nothing)
    monkeypatch.setattr(read.renderer, "_fonts", fonts.InstalledFonts())
    seen = await read((CASES / f"{name}.pdf").read_bytes())
    assert seen.text == text
    assert Note("missing_font", "Han", (1,), 1) in seen.pages[0].notes


async def test_a_file_that_needs_a_password_is_refused(read: Reader) -> None:
    with pytest.raises(EncryptedPdf):
        await read((CASES / "user-password-R6.pdf").read_bytes())


PLAIN = Strange([shown("Kept wording"), shown("Second sheet"), shown("Third sheet")]).bytes()
THREE = "Kept wording\nSecond sheet\nThird sheet"


@pytest.mark.parametrize(
    "junk", [b"\0" * 3000, b"HTTP/1.1 200 OK\r\nX: y\r\n\r\n" * 200, b"\xef\xbb\xbf", b"\x89\xff" * 700]
)
async def test_bytes_before_the_header_do_no_harm(read: Reader, junk: bytes) -> None:
    assert (await read(junk + PLAIN)).text == THREE


@pytest.mark.parametrize(("at", "text"), [(0.98, THREE), (0.9, THREE), (0.52, "Kept wording\nSecond sheet\n")])
async def test_a_file_that_was_cut_off_keeps_what_is_there(read: Reader, at: float, text: str) -> None:
    seen = await read(PLAIN[: int(len(PLAIN) * at)])
    assert seen.text == text
    assert ("damaged_page" in seen.kinds) is (text != THREE)


@pytest.mark.parametrize("number", [1, 2, 3, 10, 11, 12, 13, 15])
async def test_one_astray_reference_loses_nothing(read: Reader, number: int) -> None:
    assert (await read(with_astray_entry(PLAIN, number))).text == THREE
    assert (await read(with_astray_entry(PLAIN, number, offset=30))).text == THREE


async def test_a_damaged_last_page_is_named(read: Reader) -> None:
    seen = await read(PLAIN.replace(b"/Kids [10 0 R 12 0 R 14 0 R]", b"/Kids [10 0 R 12 0 R 99 0 R]"))
    assert seen.text == "Kept wording\nSecond sheet\n"
    assert seen.pages[2].notes == (Note("damaged_page", "", (3,), 1),)


CHECKED = "/TU (Ship by air) /V /Yes /AS /Yes /AP << /N << /Yes 60 0 R >> >>"


async def test_a_file_without_a_page_that_can_be_read_is_refused(read: Reader) -> None:
    error: type[PermanentError] = CorruptPdf
    with pytest.raises(error):
        await read(PLAIN[:60])


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ([widget(VALUE)], VALUE),
        (
            [widget("", kind="Ch", more="/Ff 131072 /Opt [(Oslo) (Bergen harbour)] /V (Bergen harbour)")],
            "Bergen harbour",
        ),
        (
            [widget("", kind="Ch", more="/Ff 131072 /Opt [[(a) (Oslo)] [(b) (Bergen harbour)]] /V (b)")],
            "Bergen harbour",
        ),
        ([widget("", kind="Ch", more="/Ff 2097152 /Opt [(Oslo) (Tromso)] /V [(Oslo) (Tromso)]")], "Tromso"),
        ([widget("", more=f"/RV (<?xml version='1.0'?><body><p>{VALUE}</p></body>) /V ({VALUE})")], VALUE),
        (
            [widget("", kind="Btn", more="/TU (Ship by air) /V /Yes /AS /Yes /AP << /N << /Yes 60 0 R >> >>")],
            "Ship by air",
        ),
        ([widget("first line\\nQuarterback", more="/Ff 4096", rect="[40 20 360 130]")], "Quarterback"),
    ],
)
@pytest.mark.parametrize("listed", [True, False])
async def test_values_of_fields_are_found(read: Reader, fields: list[str], found: str, listed: bool) -> None:
    one = form(fields, listed=listed)
    one.more[60] = stream(b"0 g 0 0 10 10 re f", "/Type /XObject /Subtype /Form /BBox [0 0 20 20]")
    if not listed and "/Btn" in fields[0]:
        pytest.skip("a box that no form lists has no name")
    text = (await read(one.bytes())).text
    assert text.startswith("Name of the applicant") and found in text


async def test_values_of_nested_fields_are_found_and_passwords_and_hidden_ones_are_not(read: Reader) -> None:
    one = form(["<< /T (a) /FT /Tx /V (Inherited Lindqvist) /Kids [51 0 R] >>"])
    kid = "<< /Type /Annot /Subtype /Widget /Parent 50 0 R /F 4 /Rect [40 100 360 130] /DA (/F1 14 Tf 0 g) >>"
    nested = Strange(
        one.contents,
        one.catalog.replace("/Fields [50 0 R]", "/Fields [50 0 R 52 0 R 53 0 R]"),
        "/Annots [51 0 R 52 0 R 53 0 R]",
        more={
            **one.more, 51: kid, 52: widget("geheim", more="/Ff 8192"),
            53: widget("Unseen").replace("/F 4", "/F 2"),
        },
    )  # fmt: skip
    text = (await read(nested.bytes())).text
    assert "Inherited Lindqvist" in text
    assert "geheim" not in text and "Unseen" not in text


@pytest.mark.parametrize("subtype", ["FreeText", "Stamp", "Square", "Line", "Ink", "Highlight", "Watermark"])
async def test_what_an_annotation_shows_is_text(read: Reader, subtype: str) -> None:
    appearance = stream(
        b"BT /F1 14 Tf 5 10 Td (Reject clause seventeen) Tj ET",
        "/Type /XObject /Subtype /Form /BBox [0 0 300 40] /Resources << /Font << /F1 3 0 R >> >>",
    )
    note = f"<< /Type /Annot /Subtype /{subtype} /F 4 /Rect [40 100 340 140] /AP << /N 51 0 R >> >>"
    one = Strange([shown("Draft contract")], page="/Annots [50 0 R]", more={50: note, 51: appearance})
    assert (await read(one.bytes())).text == "Draft contract\nReject clause seventeen"
    hidden = Strange(one.contents, page=one.page, more={**one.more, 50: note.replace("/F 4", "/F 32")})
    assert (await read(hidden.bytes())).text == "Draft contract"


async def test_a_free_text_without_an_appearance_is_found(read: Reader) -> None:
    note = "<< /Type /Annot /Subtype /FreeText /F 4 /Rect [40 100 340 140] /DA (/Helv 12 Tf) /Contents (Reject it) >>"
    one = Strange([shown("Draft contract")], page="/Annots [50 0 R]", more={50: note})
    assert (await read(one.bytes())).text == "Draft contract\nReject it"


ON_OFF = b"/OC /L1 BDC " + shown("English layer", 220) + b"EMC /OC /L2 BDC " + shown("Deutsche Ebene", 180) + b"EMC"


@pytest.mark.parametrize(
    ("content", "configuration", "text"),
    [
        (ON_OFF, "/OFF [31 0 R]", "English layer"),
        (ON_OFF, "/OFF []", "English layer\nDeutsche Ebene"),
        (ON_OFF, "/BaseState /OFF /ON [31 0 R]", "Deutsche Ebene"),
        (ON_OFF, "/BaseState /OFF", ""),
        (b"/OC /M BDC " + shown("both") + b"EMC " + shown("always", 50), "/OFF [31 0 R]", "always"),
        (
            b"/OC /L2 BDC /P << /MCID 0 >> BDC " + shown("inner") + b"EMC EMC " + shown("after"),
            "/OFF [31 0 R]",
            "after",
        ),
        (b"/X Do " + shown("after"), "/OFF [31 0 R]", "after"),
    ],
)
@pytest.mark.parametrize("is_packed", [False, True])
async def test_layers_that_are_off_are_neither_drawn_nor_found(
    read: Reader, content: bytes, configuration: str, text: str, is_packed: bool
) -> None:
    entries = "/Type /XObject /Subtype /Form /BBox [0 0 400 300] /OC 31 0 R /Resources << /Font << /F1 3 0 R >> >>"
    made = layered(content, configuration, more={40: stream(shown("in a form"), entries)}).bytes()
    assert (await read(packed(made) if is_packed else made)).text == text


@pytest.mark.parametrize(
    ("more", "size"), [("", (800, 600)), ("/Rotate 90", (600, 800)), ("/CropBox [0 0 100 300]", (200, 600))]
)
async def test_user_units_with_other_attributes(read: Reader, more: str, size: tuple[int, int]) -> None:
    [page] = (await read(Strange([shown("Plan")], page=f"/UserUnit 2 {more}").bytes())).pages
    assert (page.width_px, page.height_px) == size
    assert page.text == "Plan"


@pytest.mark.parametrize("target", ["<0000>", "<D83D>", "<FFFD>"])
async def test_useless_targets_of_a_map_give_way_to_glyph_names(read: Reader, target: str) -> None:
    font = (
        "<< /Type /Font /Subtype /Type1 /BaseFont /Times-Roman /Encoding << /Differences [33 /f_f_i /fl] >> "
        "/ToUnicode 60 0 R >>"
    )
    characters = f"2 beginbfchar <21> {target} <22> {target} endbfchar"
    text = f"begincmap 1 begincodespacerange <00> <FF> endcodespacerange {characters} endcmap"
    one = Strange([shown('di!cult and "uent')], font=font, more={60: stream(text.encode())})
    assert (await read(one.bytes())).text == "difficult and fluent"


@pytest.mark.parametrize("revision", [2, 3, 4, 6])
async def test_a_file_that_only_its_owner_may_change_is_read(read: Reader, revision: int) -> None:
    encryption = pikepdf.Encryption(owner="owner", user="", R=revision, aes=revision >= 4, metadata=revision >= 4)
    assert (await read(packed(PLAIN, encryption=encryption))).text == THREE


async def test_names_of_attached_files_are_told(read: Reader) -> None:
    names = "/Names << /EmbeddedFiles << /Names [(a) 50 0 R (b) 51 0 R] >> >>"
    files = {
        50: "<< /Type /Filespec /F (cover.pdf) /UF (cover.pdf) /EF << /F 52 0 R >> >>",
        51: "<< /Type /Filespec /F (costs.xlsx) /UF (costs.xlsx) /EF << /F 52 0 R >> >>",
        52: stream(b"x", "/Type /EmbeddedFile"),
    }
    seen = await read(Strange([shown("Cover")], names, more=files).bytes())  # type: ignore[arg-type]
    assert seen.notes == (Note("attached_file", "cover.pdf"), Note("attached_file", "costs.xlsx"))


async def test_a_cut_off_file_with_compressed_objects_ends_with_one_code_or_its_text(read: Reader) -> None:
    content = packed(PLAIN)
    try:
        seen = await read(content[: int(len(content) * 0.95)])
    except CorruptPdf:
        return
    assert seen.text
