"""The public Python client of the HTTP API. The command line uses it.

from ingestion.client import Pagemill

with Pagemill("https://pagemill.example", "KEY") as pagemill:
    document = pagemill.upload("manuals", Path("pump.pdf"))
    pagemill.wait(document.document_id)
    hits = pagemill.search("manuals", "torque of the axle")
"""

from ingestion.client.administration_views import DeadLetter, DeadLetterReport, KeyView, NewKey, SystemView
from ingestion.client.answers import ApiError, ApiUnavailable
from ingestion.client.pagemill import AsyncPagemill, Pagemill
from ingestion.client.views import DocumentView, HighlightsView, PageImage, PageView, UploadLabels
from ingestion.hits import Hit

__all__ = [
    "ApiError",
    "ApiUnavailable",
    "AsyncPagemill",
    "DeadLetter",
    "DeadLetterReport",
    "DocumentView",
    "HighlightsView",
    "Hit",
    "KeyView",
    "NewKey",
    "PageImage",
    "PageView",
    "Pagemill",
    "SystemView",
    "UploadLabels",
]
