"""The HTTP server of both services: uvicorn, with limits that hold before any API key is checked."""
