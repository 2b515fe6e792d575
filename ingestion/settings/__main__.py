"""Print all settings."""

from ingestion.settings import markdown_table

print(markdown_table())
