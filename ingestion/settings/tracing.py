"""Traces."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ingestion.settings.base import PositiveFloat, Section


class TracingSettings(Section):
    otlp_endpoint: Annotated[str, Field(pattern=r"^(https?://\S+)?$")] = Field(
        "",
        examples=["http://collector:4318"],
        description="base address of an OTLP receiver that takes protobuf over HTTP, such as http://collector:4318; "
        "traces are sent to its path /v1/traces. Empty: OTEL_EXPORTER_OTLP_ENDPOINT; where that is not set either, no "
        "traces are made",
    )
    otlp_timeout_s: PositiveFloat = Field(5.0, description="time limit of one request to the OTLP receiver")
    trace_sample_ratio: Annotated[float, Field(ge=0, le=1)] = Field(
        1.0,
        description="part of the traces that are recorded, 0 to 1; a request that names a trace in its header "
        "`traceparent` is recorded as that trace is",
    )
