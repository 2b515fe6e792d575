"""The form of a Grafana dashboard, as far as the project's dashboards use it.

Written after Grafana's own definition, kinds/dashboard/dashboard_kind.cue (schema version 39). A field that the
definition does not have is an error here: Grafana would ignore it without a word.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class DataSourceRef(_Closed):
    type: str
    uid: str


class GridPos(_Closed):
    h: Annotated[int, Field(gt=0)]
    w: Annotated[int, Field(gt=0, le=24)]
    x: Annotated[int, Field(ge=0, lt=24)]
    y: Annotated[int, Field(ge=0)]


class Threshold(_Closed):
    color: str
    value: float | int | None


class Thresholds(_Closed):
    mode: Literal["absolute", "percentage"]
    steps: Annotated[list[Threshold], Field(min_length=1)]


class FieldDefaults(_Closed):
    unit: Literal["short", "s", "bytes", "percentunit"]
    min: float | int | None = None
    max: float | int | None = None
    thresholds: Thresholds | None = None


class FieldConfig(_Closed):
    defaults: FieldDefaults
    overrides: list[dict[str, Any]]


class Target(_Closed):
    """A query of the Prometheus data source."""

    refId: Annotated[str, Field(pattern="^[A-Z]$")]
    datasource: DataSourceRef
    expr: Annotated[str, Field(min_length=1)]
    legendFormat: str


class Panel(_Closed):
    id: int
    type: Literal["stat", "timeseries"]
    title: str
    description: str | None = None
    datasource: DataSourceRef
    gridPos: GridPos
    fieldConfig: FieldConfig
    targets: Annotated[list[Target], Field(min_length=1)]
    options: dict[str, Any]


class RowPanel(_Closed):
    """A heading. `panels` holds the panels of a collapsed row only."""

    id: int
    type: Literal["row"]
    title: str
    collapsed: Literal[False]
    gridPos: GridPos
    panels: Annotated[list[Any], Field(max_length=0)]


class TimeRange(_Closed):
    from_: Annotated[str, Field(alias="from")]
    to: str


class Dashboard(_Closed):
    uid: Annotated[str, Field(max_length=40)]
    title: str
    tags: list[str]
    schemaVersion: Annotated[int, Field(ge=36)]
    editable: bool
    refresh: str
    graphTooltip: Literal[0, 1, 2]
    time: TimeRange
    timezone: str
    panels: list[Annotated[Panel | RowPanel, Field(discriminator="type")]]
