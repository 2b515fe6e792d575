"""Small files of the types that are converted, made without the programs that read them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

from PIL import Image, ImageDraw, ImageFont

_OFFICE = "application/vnd.openxmlformats-officedocument."
_DOCX_TYPES = (
    '<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    '<Default Extension="xml" ContentType="application/xml"/>'
    f'<Override PartName="/word/document.xml" ContentType="{_OFFICE}wordprocessingml.document.main+xml"/></Types>'
)
_DOCX_RELATIONS = (
    '<?xml version="1.0"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
    '<Relationship Id="r1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"'
    ' Target="word/document.xml"/></Relationships>'
)
_WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_ODF_OFFICE = "urn:oasis:names:tc:opendocument:xmlns:"


def zipped(parts: Mapping[str, str | bytes]) -> bytes:
    """A ZIP archive of `parts`, by name. A part called mimetype is not compressed, as ODF demands."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            kind = zipfile.ZIP_STORED if name == "mimetype" else zipfile.ZIP_DEFLATED
            archive.writestr(name, content, kind)
    return file.getvalue()


def docx(*paragraphs: str, **more: str | bytes) -> bytes:
    """A DOCX of these paragraphs, with `more` parts."""
    body = "".join(f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>" for text in paragraphs)
    document = f'<?xml version="1.0"?><w:document xmlns:w="{_WORD}"><w:body>{body}</w:body></w:document>'
    parts = {"[Content_Types].xml": _DOCX_TYPES, "_rels/.rels": _DOCX_RELATIONS, "word/document.xml": document}
    return zipped({**parts, **more})


def odt(body: str, *, namespaces: str = "", scripts: str = "", more: Mapping[str, str | bytes] | None = None) -> bytes:
    """An ODT with the XML `body` as its text."""
    types = {"/": _ODT, "content.xml": "text/xml", **dict.fromkeys(more or (), "text/xml")}
    entries = "".join(
        f'<manifest:file-entry manifest:full-path="{name}" manifest:media-type="{kind}"/>'
        for name, kind in types.items()
    )
    manifest = f'<manifest:manifest xmlns:manifest="{_ODF_OFFICE}manifest:1.0">{entries}</manifest:manifest>'
    content = (
        f'<?xml version="1.0"?><office:document-content xmlns:office="{_ODF_OFFICE}office:1.0" '
        f'xmlns:text="{_ODF_OFFICE}text:1.0" xmlns:draw="{_ODF_OFFICE}drawing:1.0" '
        f'xmlns:svg="{_ODF_OFFICE}svg-compatible:1.0" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'xmlns:script="{_ODF_OFFICE}script:1.0" {namespaces} office:version="1.2">{scripts}'
        f"<office:body><office:text>{body}</office:text></office:body></office:document-content>"
    )
    parts = {"mimetype": _ODT, "content.xml": content, **(more or {}), "META-INF/manifest.xml": manifest}
    return zipped(parts)


_ODT = "application/vnd.oasis.opendocument.text"


def picture(text: str, image_format: str = "PNG", *, size: tuple[int, int] = (1240, 600), pages: int = 1) -> bytes:
    """A white picture with black text, 40 px high. With `pages` above 1, a TIFF of several pages."""
    font = ImageFont.load_default(size=40)
    drawn = []
    for number in range(1, pages + 1):
        image = Image.new("RGB", size, "white")
        shown = text if pages == 1 else f"{text} {number}"
        ImageDraw.Draw(image).multiline_text((60, 60), shown, fill="black", font=font, spacing=20)
        drawn.append(image)
    file = io.BytesIO()
    more = {"save_all": True, "append_images": drawn[1:]} if pages > 1 else {}
    drawn[0].save(file, image_format, **more)
    return file.getvalue()
