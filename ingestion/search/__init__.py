"""From a query to pages: ANN per token, candidate pages, exact MaxSim, and a cache of earlier answers."""

from ingestion.hits import Hit
from ingestion.search.scoring import approximate_scores
from ingestion.search.searcher import Searcher

__all__ = ["Hit", "Searcher", "approximate_scores"]
