"""Sample PDFs, made from the texts in this folder."""
