"""One client library per module, behind the ports, its exceptions turned into those of `ingestion.errors`."""
