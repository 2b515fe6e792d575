"""What a document is and how it is accepted, found and removed."""
