"""The HTTP server of both services: uvicorn, with limits on what a connection may take before it has shown a key."""
