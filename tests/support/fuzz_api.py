"""Requests that schemathesis makes from the OpenAPI document of a running API, and what is wrong with the answers.

python -m tests.support.fuzz_api URL KEY       every route, with and without the key; exits with 1 for a fault
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

_CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
_DESTRUCTIVE = ("delete",)
_ENDLESS = ("/api/v1/collections/{collection}/events",)
"""Streams that no answer ends: a client that reads to the end waits for ever."""


def faults_of(
    url: str, key: str | None, *, examples: int, known: Mapping[str, Any] | None = None
) -> Iterator[tuple[str, BaseException]]:
    """The routes with an answer that is a 5xx or that the document does not describe, and the first such answer.

    `known` replaces parameters of paths by values that exist; routes that delete are left out then.
    """
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    for found in schema.get_all_operations():
        operation = found.ok()
        if operation.path in _ENDLESS:
            continue
        if known and (operation.method in _DESTRUCTIVE or not set(known) & _parameters(operation.path)):
            continue
        try:
            _try(operation, headers, examples, known or {})
        except Exception as error:  # noqa: BLE001 - every failure is a fault of the route
            yield f"{operation.method.upper()} {operation.path}", error


def _try(operation: Any, headers: Mapping[str, str], examples: int, known: Mapping[str, Any]) -> None:
    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def run(case: Any) -> None:
        for name in set(known) & set(case.path_parameters or {}):
            case.path_parameters[name] = known[name]
        response = case.call(headers=dict(headers), timeout=30, allow_redirects=False)
        case.validate_response(response, checks=_CHECKS, headers=dict(headers))

    run()


def _parameters(path: str) -> set[str]:
    return {part[1:-1] for part in path.split("/") if part.startswith("{")}


def main(url: str, key: str) -> int:
    count = 0
    for sent in (key, None):
        for route, error in faults_of(url, sent, examples=25):
            count += 1
            print(f"{'with' if sent else 'without'} a key: {route}\n{error}\n")
    return int(count > 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
