"""Files of all types that are accepted, each with a sentence of its own, made by this script: `write_corpus`."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pikepdf
from PIL import Image

from tests.support.strange_pdfs import Strange, form, layered, packed, shown, stream, widget, with_astray_entry
from tests.support.uploaded_files import docx, odt, picture, zipped

_ODF: Final = "urn:oasis:names:tc:opendocument:xmlns:"
_OFFICE: Final = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE: Final = "http://schemas.openxmlformats.org/package/2006"


@dataclass(frozen=True)
class Sample:
    """`sentence` is on page `page` of the file, and in no other file."""

    name: str
    sentence: str
    content: bytes
    page: int = 1


def corpus() -> list[Sample]:
    return [*_pdfs(), *_pictures(), *_texts(), *_office()]


def write_corpus(folder: Path) -> dict[str, Sample]:
    samples = {sample.name: sample for sample in corpus()}
    for sample in samples.values():
        (folder / sample.name).write_bytes(sample.content)
    return samples


def refused() -> dict[str, tuple[bytes, str]]:
    """Files that no converter takes, and the code of each."""
    ole = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600
    locked = packed(Strange([shown("secret")]).bytes(), encryption=pikepdf.Encryption(owner="o", user="u", R=6))
    return {
        "old.doc": (ole, "unsupported_type"),
        "locked.docx": (ole + "EncryptedPackage".encode("utf-16-le"), "encrypted_file"),
        "archive.zip": (zipped({"a.txt": "x"}), "unsupported_type"),
        "program.exe": (b"MZ\x90\0\3\0\0\0", "unsupported_type"),
        "locked.pdf": (locked, "encrypted_pdf"),
        "empty.txt": (b"", "empty_file"),
        "letter.pdf": (b"no PDF", "not_a_pdf"),
        "cut.docx": (docx("x")[:200], "conversion_failed"),
    }


def _pdfs() -> list[Sample]:
    said = {
        "plain.pdf": "The heron waits in the reeds for a fish",
        "form.pdf": "Applicant Theodora Winterbottom",
        "note.pdf": "Please delete the clause about penguins",
        "layers.pdf": "Lift the anchor before the tide turns",
        "hole.pdf": "Honey keeps for many hundred years",
        "plan.pdf": "Ground floor of the railway station",
        "owner.pdf": "Only the owner may change the violin contract",
        "mailed.pdf": "Volcanoes of Iceland and their glaciers",
        "astray.pdf": "The bakery opens at half past five",
        "scan.pdf": "Chess club meets every Tuesday",
    }
    plain = {name: Strange([shown(sentence)]) for name, sentence in said.items()}
    note = "<< /Type /Annot /Subtype /FreeText /F 4 /Rect [40 100 390 140] /AP << /N 51 0 R >> >>"
    appearance = stream(
        f"BT /F1 14 Tf 5 10 Td ({said['note.pdf']}) Tj ET".encode(),
        "/Type /XObject /Subtype /Form /BBox [0 0 350 40] /Resources << /Font << /F1 3 0 R >> >>",
    )
    content = (
        b"/OC /L1 BDC " + shown(said["layers.pdf"], 220) + b"EMC /OC /L2 BDC " + shown("Hidden words", 150) + b"EMC"
    )
    hole = Strange([shown("First sheet"), shown("x"), shown(said["hole.pdf"])]).bytes()
    scan = io.BytesIO()
    Image.open(io.BytesIO(picture(said["scan.pdf"]))).save(scan, "PDF", resolution=150)
    made = {
        **{name: one.bytes() for name, one in plain.items()},
        "form.pdf": form([widget(said["form.pdf"])]).bytes(),
        "note.pdf": Strange([shown("Draft")], page="/Annots [50 0 R]", more={50: note, 51: appearance}).bytes(),
        "layers.pdf": layered(content, "/OFF [31 0 R]").bytes(),
        "hole.pdf": hole.replace(b"/Kids [10 0 R 12 0 R 14 0 R]", b"/Kids [10 0 R 99 0 R 14 0 R]"),
        "plan.pdf": Strange([shown(said["plan.pdf"])], page="/UserUnit 3").bytes(),
        "owner.pdf": packed(plain["owner.pdf"].bytes(), encryption=pikepdf.Encryption(owner="o", user="", R=6)),
        "mailed.pdf": b"X-Mailer: harbour\r\n" * 100 + plain["mailed.pdf"].bytes(),
        "astray.pdf": with_astray_entry(plain["astray.pdf"].bytes(), 11),
        "scan.pdf": scan.getvalue(),
    }
    return [Sample(name, said[name], made[name], 3 if name == "hole.pdf" else 1) for name in said]


def _pictures() -> list[Sample]:
    said = {
        "shot.png": "Invoice for forty oak barrels",
        "photo.jpeg": "Lighthouse keeper wanted in spring",
        "page.webp": "Umbrella repairs on the second floor",
        "drawing.gif": "Elephants cross the river at noon",
        "old.bmp": "Telephone exchange is out of order",
        "fax.tiff": "Cucumber harvest in the greenhouse",
        "print.jpg": "Parliament votes about the bridge",
        "deep.png": "Microscope lenses need cleaning",
        "turned.jpg": "Bicycle parking behind the museum",
        "moving.gif": "Orchestra rehearsal was cancelled",
    }
    made = {
        name: _drawn(sentence, image_format)
        for (name, sentence), image_format in zip(
            said.items(), ("PNG", "JPEG", "WEBP", "GIF", "BMP", "PNG", "JPEG", "PNG", "JPEG", "GIF"), strict=True
        )
    }
    first = Image.open(io.BytesIO(_drawn("Fax cover sheet", "PNG"))).resize((900, 500))
    made["fax.tiff"] = _saved(first, "TIFF", save_all=True, append_images=[_image(made["fax.tiff"]).convert("1")])
    made["print.jpg"] = _saved(_image(made["print.jpg"]).convert("CMYK"), "JPEG")
    grey = _image(made["deep.png"]).convert("L")
    deep = np.asarray(grey, dtype=np.uint16) * 257
    made["deep.png"] = _saved(Image.fromarray(deep), "PNG")
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn to the right
    made["turned.jpg"] = _saved(_image(made["turned.jpg"]).rotate(90, expand=True), "JPEG", exif=exif)
    moving = _image(made["moving.gif"]).convert("P")
    made["moving.gif"] = _saved(moving, "GIF", save_all=True, append_images=[moving.rotate(180)], duration=100)
    return [Sample(name, said[name], made[name], 2 if name == "fax.tiff" else 1) for name in said]


def _texts() -> list[Sample]:
    said = {
        "readme.txt": "Squirrels bury acorns before winter",
        "windows.txt": "Die Brücke über den Fluss bleibt gesperrt",
        "wide.txt": "Astronomers counted seventeen comets",
        "notes.md": "Marble quarries of the southern island",
        "prices.csv": "Copper kettle with a wooden handle",
        "page.html": "Crème brûlée für zwölf Gäste",
    }
    made = {
        "readme.txt": said["readme.txt"].encode(),
        "windows.txt": said["windows.txt"].encode("cp1252"),
        "wide.txt": said["wide.txt"].encode("utf-16"),
        "notes.md": f"# Stones\n\n| place | known for |\n|---|---|\n| south | {said['notes.md']} |\n".encode(),
        "prices.csv": f"article;price\n{said['prices.csv']};12,50\nSpoon;1,20\n".encode(),
        "page.html": f'<html><head><meta charset="iso-8859-1"></head><body>{said["page.html"]}</body>'.encode(
            "latin-1"
        ),
    }
    return [Sample(name, said[name], made[name]) for name in said]


def _office() -> list[Sample]:
    said = {
        "letter.docx": "Beekeepers move their hives by night",
        "no-extension": "Ferries to the northern harbour are delayed",
        "report.odt": "Moss grows on the north side of the roof",
        "table.ods": "Quarterly turnover of the glass factory",
        "talk.odp": "Kangaroos carry their young in a pouch",
        "sheet.xlsx": "Budget for repairing the clock tower",
        "deck.pptx": "Submarine cables connect the continents",
        "memo.rtf": "The choir sings in the cathedral tonight",
    }
    made = {
        "letter.docx": docx(said["letter.docx"]),
        "no-extension": docx(said["no-extension"]),
        "report.odt": odt(f"<text:p>{said['report.odt']}</text:p>"),
        "table.ods": _odf("spreadsheet", _table(said["table.ods"])),
        "talk.odp": _odf("presentation", _slide(said["talk.odp"])),
        "sheet.xlsx": _xlsx(said["sheet.xlsx"]),
        "deck.pptx": _pptx(said["deck.pptx"]),
        "memo.rtf": b"{\\rtf1\\ansi " + said["memo.rtf"].encode() + b"}",
    }
    return [Sample(name, said[name], made[name]) for name in said]


def _drawn(sentence: str, image_format: str) -> bytes:
    return picture(sentence, image_format, size=(1000, 260))


def _image(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content)).convert("RGB")


def _saved(image: Image.Image, image_format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def _odf(kind: str, body: str) -> bytes:
    media_type = f"application/vnd.oasis.opendocument.{kind}"
    content = (
        f'<?xml version="1.0"?><office:document-content xmlns:office="{_ODF}office:1.0" xmlns:text="{_ODF}text:1.0" '
        f'xmlns:table="{_ODF}table:1.0" xmlns:draw="{_ODF}drawing:1.0" xmlns:svg="{_ODF}svg-compatible:1.0" '
        f'office:version="1.2"><office:body><office:{kind}>{body}</office:{kind}></office:body></office:document-content>'
    )
    manifest = (
        f'<manifest:manifest xmlns:manifest="{_ODF}manifest:1.0"><manifest:file-entry manifest:full-path="/" '
        f'manifest:media-type="{media_type}"/><manifest:file-entry manifest:full-path="content.xml" '
        'manifest:media-type="text/xml"/></manifest:manifest>'
    )
    return zipped({"mimetype": media_type, "content.xml": content, "META-INF/manifest.xml": manifest})


def _table(text: str) -> str:
    cell = f'<table:table-cell office:value-type="string"><text:p>{text}</text:p></table:table-cell>'
    return f'<table:table table:name="Sheet"><table:table-row>{cell}</table:table-row></table:table>'


def _slide(text: str) -> str:
    return (
        '<draw:page draw:name="one"><draw:frame svg:width="20cm" svg:height="4cm" svg:x="2cm" svg:y="2cm">'
        f"<draw:text-box><text:p>{text}</text:p></draw:text-box></draw:frame></draw:page>"
    )


def _ooxml(main: str, main_type: str, parts: Mapping[str, str], overrides: Mapping[str, str]) -> bytes:
    kinds = {main: main_type, **overrides}
    types = "".join(f'<Override PartName="/{name}" ContentType="{kind}"/>' for name, kind in kinds.items())
    content_types = (
        f'<?xml version="1.0"?><Types xmlns="{_PACKAGE}/content-types"><Default Extension="rels" '
        f'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>{types}</Types>'
    )
    return zipped(
        {"[Content_Types].xml": content_types, "_rels/.rels": _relations({"r1": ("officeDocument", main)}), **parts}
    )


def _relations(targets: Mapping[str, tuple[str, str]]) -> str:
    entries = "".join(
        f'<Relationship Id="{name}" Type="{_OFFICE}/{kind}" Target="{target}"/>'
        for name, (kind, target) in targets.items()
    )
    return f'<?xml version="1.0"?><Relationships xmlns="{_PACKAGE}/relationships">{entries}</Relationships>'


def _xlsx(text: str) -> bytes:
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml."
    space = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    book = (
        f'<?xml version="1.0"?><workbook xmlns="{space}" xmlns:r="{_OFFICE}"><sheets><sheet name="One" sheetId="1" '
        'r:id="r1"/></sheets></workbook>'
    )
    sheet = (
        f'<?xml version="1.0"?><worksheet xmlns="{space}"><sheetData><row r="1"><c r="A1" t="inlineStr"><is>'
        f"<t>{text}</t></is></c></row></sheetData></worksheet>"
    )
    parts = {
        "xl/workbook.xml": book,
        "xl/_rels/workbook.xml.rels": _relations({"r1": ("worksheet", "worksheets/sheet1.xml")}),
        "xl/worksheets/sheet1.xml": sheet,
    }
    return _ooxml(
        "xl/workbook.xml", f"{kind}sheet.main+xml", parts, {"xl/worksheets/sheet1.xml": f"{kind}worksheet+xml"}
    )


def _pptx(text: str) -> bytes:
    kind = "application/vnd.openxmlformats-officedocument.presentationml."
    spaces = (
        'xmlns:p="http://schemas.openxmlformats.org/presentationml/2006/main" '
        f'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main" xmlns:r="{_OFFICE}"'
    )
    show = (
        f'<?xml version="1.0"?><p:presentation {spaces}><p:sldIdLst><p:sldId id="256" r:id="r1"/></p:sldIdLst>'
        '<p:sldSz cx="9144000" cy="6858000"/><p:notesSz cx="6858000" cy="9144000"/></p:presentation>'
    )
    slide = (
        f'<?xml version="1.0"?><p:sld {spaces}><p:cSld><p:spTree><p:nvGrpSpPr><p:cNvPr id="1" name=""/><p:cNvGrpSpPr/>'
        '<p:nvPr/></p:nvGrpSpPr><p:grpSpPr/><p:sp><p:nvSpPr><p:cNvPr id="2" name="t"/><p:cNvSpPr txBox="1"/><p:nvPr/>'
        '</p:nvSpPr><p:spPr><a:xfrm><a:off x="600000" y="600000"/><a:ext cx="7000000" cy="900000"/></a:xfrm>'
        '<a:prstGeom prst="rect"><a:avLst/></a:prstGeom></p:spPr><p:txBody><a:bodyPr/><a:p><a:r><a:rPr lang="en"/>'
        f"<a:t>{text}</a:t></a:r></a:p></p:txBody></p:sp></p:spTree></p:cSld></p:sld>"
    )
    parts = {
        "ppt/presentation.xml": show,
        "ppt/_rels/presentation.xml.rels": _relations({"r1": ("slide", "slides/slide1.xml")}),
        "ppt/slides/slide1.xml": slide,
    }
    return _ooxml(
        "ppt/presentation.xml", f"{kind}presentation.main+xml", parts, {"ppt/slides/slide1.xml": f"{kind}slide+xml"}
    )
