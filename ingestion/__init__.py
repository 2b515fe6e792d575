"""Documents: how they are accepted, found and removed."""
