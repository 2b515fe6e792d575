"""`pagemill ingest|search|status|delete`: the commands that talk to the HTTP API."""
