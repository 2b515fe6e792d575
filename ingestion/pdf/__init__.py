"""Uploaded PDFs: inspection and page sizes, read by PDFium in a confined child."""
