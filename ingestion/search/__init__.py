"""From a query to pages: pages from the ANN index, sign codes, exact MaxSim, and a cache of earlier answers."""

from ingestion.hits import Hit
from ingestion.search.scoring import approximate_scores
from ingestion.search.searcher import Searcher

__all__ = ["Hit", "Searcher", "approximate_scores"]
