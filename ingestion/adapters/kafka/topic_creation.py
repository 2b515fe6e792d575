"""Keeps clients from creating topics. Only this module changes a name of `aiokafka.client`.

A metadata request of aiokafka lets the broker create a topic that it does not have, with one partition and the
broker's retention. A dead-letter topic made so loses its letters after a week. aiokafka has no option for it.
`tests/unit/test_private_names.py` fails if a release of aiokafka makes its requests in another way.
"""

from __future__ import annotations

from functools import partial

import aiokafka.client
from aiokafka.protocol.metadata import MetadataRequest


def forbid_topic_creation() -> None:
    """Let all clients of this process ask for topics without creating them. Safe to repeat."""
    aiokafka.client.MetadataRequest = partial(MetadataRequest, allow_auto_topic_creation=False)
