"""A connection to Milvus for requests on which pymilvus's client spends more time than the server.

The client makes a Python object of every number and every row. This sends and reads the messages of the Milvus
protocol directly.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Protocol, TypeVar
from urllib.parse import urlsplit

import grpc

from ingestion.adapters.milvus.certificates import channel_credentials
from ingestion.adapters.milvus.errors import DEPENDENCY
from ingestion.concurrency.deadline import limit_s
from ingestion.settings import MilvusSettings

if TYPE_CHECKING:
    from ingestion.adapters.milvus.protocol import Status

Request = TypeVar("Request", contravariant=True)
Answer = TypeVar("Answer", covariant=True)

_SERVICE: Final = "/milvus.proto.milvus.MilvusService/"


class Method(Protocol[Request, Answer]):
    """Sends a request and waits for its answer: at most `timeout_s`, or what is left of the caller's budget of time.

    Raises grpc.RpcError, and DependencyUnavailable where no time is left. The caller checks the answer's status.
    """

    def __call__(self, message: Request, *, timeout_s: float) -> Answer: ...


class MilvusChannel:
    """Connects at its first request. Safe to use from many threads."""

    def __init__(self, settings: MilvusSettings, options: Sequence[tuple[str, int]]) -> None:
        """Raises InvalidSetting if a file of certificates cannot be read."""
        address, token = urlsplit(settings.milvus_uri), settings.milvus_token.get_secret_value()
        self.database = address.path.strip("/")
        self._metadata = [("authorization", base64.b64encode(token.encode()).decode())] if token else []
        everything = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1), *options]
        if address.scheme == "https":
            self._channel = grpc.secure_channel(address.netloc, channel_credentials(settings), everything)
        else:
            self._channel = grpc.insecure_channel(address.netloc, everything)

    def method(
        self, name: str, serialize: Callable[[Request], bytes], parse: Callable[[bytes], Answer]
    ) -> Method[Request, Answer]:
        """The service's method `name`. `serialize` writes its requests and `parse` reads its answers."""
        send = self._channel.unary_unary(_SERVICE + name, request_serializer=serialize, response_deserializer=parse)

        def call(message: Request, *, timeout_s: float) -> Answer:
            answer: Answer = send(message, timeout=limit_s(DEPENDENCY, timeout_s), metadata=self._metadata)
            return answer

        return call

    def close(self) -> None:
        self._channel.close()


def check(status: Status) -> None:
    """Raises MilvusException where `status` is an error."""
    from pymilvus.exceptions import MilvusException

    if status.code or status.error_code:
        raise MilvusException(status.code or status.error_code, status.reason, retriable=status.retriable)
