"""Skips tests that need LibreOffice where it is not installed."""

from __future__ import annotations

import shutil

import pytest

from workers.conversion.soffice import INSTALL

needs_libreoffice = pytest.mark.skipif(
    shutil.which("soffice") is None, reason=f"LibreOffice is not installed: {INSTALL}"
)
