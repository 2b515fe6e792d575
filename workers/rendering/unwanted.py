"""Characters that no page's text keeps."""

from __future__ import annotations

import re
from typing import Final

# Control characters break databases and terminals. PDFium writes U+FFFE for a hyphen at a line break. Lone surrogates
# do not occur: decoding PDFium's UTF-16 drops them.
UNWANTED: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f\ufffe\uffff]")
