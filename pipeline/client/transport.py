"""The two ways to the server: `Client` waits, `AsyncClient` awaits; all they decide is when to wait."""

from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import grpc
import grpc.aio
from tritonclient.grpc import service_pb2_grpc

from pipeline.client.contract import Contract
from pipeline.client.endpoint import INDEX_REQUEST, INDEX_TIMEOUT_SECONDS, Closed, Endpoint
from pipeline.client.exchange import Exchange, Prediction, Request, Row


@dataclass(eq=False)
class Client(Endpoint):
    """A client that waits for its answers. Threads may share it; one `stream` belongs to one thread."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._channel = self.access.channel(self.url)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    def contract(self) -> Contract:
        """Return what the model takes and gives, as its server says; asked for once.

        Raises:
            ServerError: the server cannot be reached.
            RequestError: it does not serve this model or version, or the model is not one of ours.
        """
        if self._contract is None:
            call = self._stub.ModelConfig.future(
                self._config_request(), timeout=self.timeout_seconds, metadata=self.access.metadata
            )
            self._contract = Contract.from_config(self._result(call).config)
        return self._contract

    def classify(self, rows: Iterable[Row]) -> list[Prediction]:
        """Return one prediction per row, in their order; rows are texts (str or bytes) or (T, F) sequences.

        Raises:
            ServerError: the server cannot be reached, or did not answer in time.
            RequestError: the server refused.
            DataError: a row is not what the model takes.
        """
        return list(self.stream(rows))

    def stream(self, rows: Iterable[Row]) -> Iterator[Prediction]:
        """Yield what `classify` returns, reading only a few requests' worth of rows ahead; raises the same."""
        exchange = self._exchange(self.contract(), rows)
        waiting: deque[tuple[Request, Any]] = deque()
        try:
            for request in exchange.requests(rows):
                waiting.append(
                    (
                        request,
                        self._stub.ModelInfer.future(
                            request.message, timeout=self.timeout_seconds, metadata=self.access.metadata
                        ),
                    )
                )
                if len(waiting) >= self.in_flight:
                    yield from self._oldest(exchange, waiting)
            while waiting:
                yield from self._oldest(exchange, waiting)
        finally:
            for _, call in waiting:
                call.cancel()

    def close(self) -> None:
        """Hang up; the client cannot be used again."""
        self._stub = Closed()
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _oldest(self, exchange: Exchange, waiting: deque[tuple[Request, Any]]) -> Iterator[Prediction]:
        request, call = waiting.popleft()
        return exchange.receive(request, self._result(call))

    def _result(self, call: Any) -> Any:
        try:
            return call.result()
        except grpc.RpcError as error:
            raise self._failure(error, self._index(error)) from error

    def _index(self, error: grpc.RpcError) -> Any | None:
        if self._is_overdue(error):
            return None
        try:
            return self._stub.RepositoryIndex(
                INDEX_REQUEST, timeout=INDEX_TIMEOUT_SECONDS, metadata=self.access.metadata
            )
        except grpc.RpcError:
            return None


@dataclass(eq=False)
class AsyncClient(Endpoint):
    """A client to await. It belongs to the event loop in which it is first used; tasks of that loop may share it."""

    @cached_property
    def _channel(self) -> Any:
        return self.access.channel(self.url, grpc.aio)  # binds to the running event loop

    @cached_property
    def _stub(self) -> Any:
        return service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    async def contract(self) -> Contract:
        """As `Client.contract`."""
        if self._contract is None:
            call = self._stub.ModelConfig(
                self._config_request(), timeout=self.timeout_seconds, metadata=self.access.metadata
            )
            self._contract = Contract.from_config((await self._result(call)).config)
        return self._contract

    async def classify(self, rows: Iterable[Row] | AsyncIterable[Row]) -> list[Prediction]:
        """As `Client.classify`."""
        return [prediction async for prediction in self.stream(rows)]

    async def stream(self, rows: Iterable[Row] | AsyncIterable[Row]) -> AsyncIterator[Prediction]:
        """As `Client.stream`; the rows may come asynchronously too."""
        exchange = self._exchange(await self.contract(), rows)
        waiting: deque[tuple[Request, Any]] = deque()
        try:
            async for request in _requests(exchange, rows):
                waiting.append(
                    (
                        request,
                        self._stub.ModelInfer(
                            request.message, timeout=self.timeout_seconds, metadata=self.access.metadata
                        ),
                    )
                )
                if len(waiting) >= self.in_flight:
                    for prediction in await self._oldest(exchange, waiting):
                        yield prediction
            while waiting:
                for prediction in await self._oldest(exchange, waiting):
                    yield prediction
        finally:
            for _, call in waiting:
                call.cancel()

    async def close(self) -> None:
        """As `Client.close`."""
        self._stub = Closed()
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _oldest(self, exchange: Exchange, waiting: deque[tuple[Request, Any]]) -> Iterator[Prediction]:
        request, call = waiting.popleft()
        return exchange.receive(request, await self._result(call))

    async def _result(self, call: Any) -> Any:
        try:
            return await call
        except grpc.RpcError as error:
            raise self._failure(error, await self._index(error)) from error

    async def _index(self, error: grpc.RpcError) -> Any | None:
        if self._is_overdue(error):
            return None
        try:
            return await self._stub.RepositoryIndex(
                INDEX_REQUEST, timeout=INDEX_TIMEOUT_SECONDS, metadata=self.access.metadata
            )
        except grpc.RpcError:
            return None


async def _requests(exchange: Exchange, rows: Iterable[Row] | AsyncIterable[Row]) -> AsyncIterator[Request]:
    if isinstance(rows, AsyncIterable):
        async for row in rows:
            for request in exchange.add(row):
                yield request
        for request in exchange.cut():
            yield request
    else:
        for request in exchange.requests(rows):
            yield request
