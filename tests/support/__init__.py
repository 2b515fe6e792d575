"""What tests share: PDFs, servers, fakes, waits."""
