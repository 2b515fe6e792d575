"""FastAPI dependencies that return the objects in the application's state.

They are coroutines because FastAPI calls plain functions in a thread.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from ingestion.bootstrap import Services
from ingestion.removal import Remover
from ingestion.search import Searcher
from ingestion.submit import Submitter
from ingestion.usage import UsageRecorder
from ingestion.viewing.images import PageImages


async def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


async def _submitter(request: Request) -> Submitter:
    submitter: Submitter = request.app.state.submitter
    return submitter


async def _searcher(request: Request) -> Searcher:
    searcher: Searcher = request.app.state.searcher
    return searcher


async def _remover(request: Request) -> Remover:
    remover: Remover = request.app.state.remover
    return remover


async def _usage(request: Request) -> UsageRecorder:
    usage: UsageRecorder = request.app.state.usage
    return usage


async def _page_images(request: Request) -> PageImages:
    images: PageImages = request.app.state.page_images
    return images


ServicesDep = Annotated[Services, Depends(_services)]
SubmitterDep = Annotated[Submitter, Depends(_submitter)]
SearcherDep = Annotated[Searcher, Depends(_searcher)]
RemoverDep = Annotated[Remover, Depends(_remover)]
UsageDep = Annotated[UsageRecorder, Depends(_usage)]
PageImagesDep = Annotated[PageImages, Depends(_page_images)]
