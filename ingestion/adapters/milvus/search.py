"""Searches Milvus for the rows nearest to query vectors, and returns keys and inner products as arrays."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ingestion.adapters.milvus.channel import MilvusChannel, check
from ingestion.adapters.milvus.schema import METRIC, VECTOR
from ingestion.model import Vectors
from ingestion.settings import MilvusSettings

if TYPE_CHECKING:
    from ingestion.adapters.milvus.protocol import SearchRequest

Consistency = Literal["Strong", "Bounded", "Eventually"]

_GUARANTEE: Final[dict[Consistency, int]] = {"Strong": 0, "Eventually": 1, "Bounded": 2}
"""Special timestamps: see all writes; see what the server has now; see writes older than `common.gracefulTime`."""


class FoundRows(NamedTuple):
    """Rows of all tokens: first those of the first token, best first, and so on."""

    keys: NDArray[np.int64]
    """(rows,) primary keys."""
    products: NDArray[np.float32]
    """(rows,) inner products."""
    counts: NDArray[np.int64]
    """(tokens,) the number of rows of each token."""


class RowSearcher:
    """Sends searches over a connection of its own. Safe to use from many threads."""

    def __init__(self, settings: MilvusSettings, options: Sequence[tuple[str, int]]) -> None:
        """As `MilvusChannel`."""
        from ingestion.adapters.milvus.protocol import SearchRequest, SearchResults

        self._channel = MilvusChannel(settings, options)
        self._send = self._channel.method("Search", SearchRequest.SerializeToString, SearchResults.FromString)

    def search(
        self,
        name: str,
        query: Vectors,
        limit: int,
        *,
        parameters: Mapping[str, object],
        consistency: Consistency,
        timeout_s: float,
        output_fields: Sequence[str] = (),
        condition: str = "",
    ) -> FoundRows:
        """The `limit` rows of the Milvus collection `name` nearest to each of `query`, (tokens, dim).

        `parameters`: those of the type of its index: see `search_parameters`. `output_fields` are not read.
        `condition`: an expression that selects rows before they are compared. "" selects all rows.

        Raises MilvusException, grpc.RpcError.
        """
        request = search_request(name, query, limit, parameters=parameters, consistency=consistency)
        request.dsl = condition
        request.db_name = self._channel.database
        request.output_fields.extend(output_fields)
        answer = self._send(request, timeout_s=timeout_s)
        check(answer.status)
        found = answer.results
        return FoundRows(
            np.array(found.ids.int_id.data, np.int64),
            np.array(found.scores, np.float32),
            np.array(found.topks, np.int64),
        )

    def close(self) -> None:
        self._channel.close()


def search_request(
    name: str, query: Vectors, limit: int, *, parameters: Mapping[str, object], consistency: Consistency
) -> SearchRequest:
    from ingestion.adapters.milvus.protocol import (
        ConsistencyLevel,
        DslType,
        KeyValuePair,
        PlaceholderGroup,
        PlaceholderType,
        PlaceholderValue,
        SearchRequest,
    )

    vectors = PlaceholderValue(
        tag="$0",
        type=PlaceholderType.FloatVector,
        values=[vector.tobytes() for vector in query.astype("<f4", copy=False)],
    )
    options = {
        "anns_field": VECTOR,
        "topk": str(limit),
        "metric_type": METRIC,
        "round_decimal": "-1",
        "params": json.dumps(dict(parameters)),
    }
    return SearchRequest(
        collection_name=name,
        dsl_type=DslType.BoolExprV1,
        placeholder_group=PlaceholderGroup(placeholders=[vectors]).SerializeToString(),
        nq=len(query),
        search_params=[KeyValuePair(key=key, value=value) for key, value in options.items()],
        consistency_level=ConsistencyLevel.Value(consistency),
        guarantee_timestamp=_GUARANTEE[consistency],
    )
