"""Filters: a small language that selects documents, the same in the API, the client and the command line.

    team = "legal" and year >= 2020 and tags has "draft" and not filename like "*.pptx"

`expression` has the parts of a filter, `parse` reads the text, `text` writes it, `matching` evaluates a filter for a
document. `ingestion.adapters.mongo.filter_queries` makes a query of it. A contract test holds the two evaluations to
each other.
"""

from ingestion.filters.expression import Filter
from ingestion.filters.matching import matches
from ingestion.filters.parse import parse_filter
from ingestion.filters.text import filter_text

__all__ = ["Filter", "filter_text", "matches", "parse_filter"]
