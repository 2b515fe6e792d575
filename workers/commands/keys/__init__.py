"""`pagemill keys`: API keys of tenants."""
