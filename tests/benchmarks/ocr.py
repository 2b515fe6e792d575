"""What OCR costs and finds: `python -m tests.benchmarks.ocr A.pdf…`, pages with a text layer, which is the truth.

Words of three letters and more, CPU seconds of one core. The first row of a DPI has the defaults of RapidOCR.
"""

from __future__ import annotations

import argparse
import re
import time
from pathlib import Path
from typing import Any

import pypdfium2
from rapidocr import RapidOCR

from workers.ocr.ocr_child import PARAMETERS

_POINTS_PER_INCH = 72
_ONE_CORE = {name: value for name, value in PARAMETERS.items() if name.startswith(("Global.log", "EngineConfig"))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pdf", type=Path, nargs="+")
    parser.add_argument("--pages", type=int, default=2, help="pages of each file, from its second one on")
    parser.add_argument("--dpi", type=int, nargs="+", default=[110, 150, 200])
    parser.add_argument("--sides", type=int, nargs="+", default=[640, 960, 1280])
    options = parser.parse_args()
    for dpi in options.dpi:
        _measure("defaults", _ONE_CORE, options.pdf, options.pages, dpi)
        for side in options.sides:
            chosen = {**PARAMETERS, "Det.limit_side_len": side}
            _measure(f"lines found at {side} px", chosen, options.pdf, options.pages, dpi)


def _measure(name: str, parameters: dict[str, Any], files: list[Path], pages: int, dpi: int) -> None:
    reader = RapidOCR(params=parameters)
    found = wanted = count = 0
    cpu_s = 0.0
    for path in files:
        with pypdfium2.PdfDocument(path) as pdf:
            for index in range(1, min(1 + pages, len(pdf))):
                page = pdf[index]
                truth = _words(page.get_textpage().get_text_bounded())
                picture = page.render(scale=dpi / _POINTS_PER_INCH).to_numpy()[:, :, :3]
                began_s = time.process_time()
                read = reader(picture)
                cpu_s += time.process_time() - began_s
                found += len(truth & _words(" ".join(read.txts or ())))
                wanted += len(truth)
                count += 1
    print(f"{dpi} DPI, {name}: {found / wanted:.1%} of the words, {cpu_s / count:.2f} CPU seconds a page", flush=True)


def _words(text: str) -> set[str]:
    return set(re.findall(r"[a-z0-9]{3,}", text.lower()))


if __name__ == "__main__":
    main()
