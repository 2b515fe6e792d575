"""From a query to pages: per-token ANN, candidate pages, exact MaxSim, and a memory of earlier answers."""

from ingestion.hits import Hit
from ingestion.search.scoring import approximate_scores
from ingestion.search.searcher import Searcher

__all__ = ["Hit", "Searcher", "approximate_scores"]
