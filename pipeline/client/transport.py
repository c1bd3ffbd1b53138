"""The two ways to the server: `Client` waits, `AsyncClient` awaits; all they decide is when to wait."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, Self

import grpc
import grpc.aio
from tritonclient.grpc import service_pb2_grpc

from pipeline.client.closing import Closing
from pipeline.client.contract import Contract
from pipeline.client.endpoint import INDEX_REQUEST, INDEX_TIMEOUT_SECONDS, Closed
from pipeline.client.exchange import Exchange, Request, Row
from pipeline.client.over_grpc import GrpcEndpoint
from pipeline.client.prediction import Prediction
from pipeline.client.retries import Pending


@dataclass(eq=False)
class Client(GrpcEndpoint, Closing):
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
            pending = self._ask("ModelConfig", self._config_request())
            self._contract = Contract.from_config(self._answer(pending).config)
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
        """Yield what `classify` returns, reading only a few requests' worth of rows ahead; raises the same.

        Closing it cancels the requests that are on their way.
        """
        exchange = self._exchange(self.contract(), rows)
        waiting: deque[tuple[Request, Pending]] = deque()
        try:
            for request in exchange.requests(rows):
                waiting.append((request, self._infer(request)))
                if len(waiting) >= self.in_flight:
                    yield from self._oldest(exchange, waiting)
            while waiting:
                yield from self._oldest(exchange, waiting)
        finally:
            for _, pending in waiting:
                pending.end(error="cancelled")

    def close(self) -> None:
        """Hang up; the client cannot be used again."""
        self._stub = Closed()
        self._channel.close()

    def _method(self, name: str) -> Any:
        return getattr(self._stub, name).future

    def _oldest(self, exchange: Exchange, waiting: deque[tuple[Request, Pending]]) -> Iterator[Prediction]:
        response = self._answer(waiting[0][1])
        return exchange.receive(waiting.popleft()[0], response)

    def _answer(self, pending: Pending) -> Any:
        while True:
            try:
                response = self._finished(pending).result()
            except grpc.RpcError as error:
                pause_seconds = self._pause(pending, error)
                if pause_seconds is None:
                    raise self._given_up(pending, error, self._index(error)) from error
                time.sleep(pause_seconds)
                pending.send_again()
            else:
                pending.end(response)
                return response

    def _finished(self, pending: Pending) -> Any:
        """Return the call whose result counts: the only one, or of two the first that went well."""
        (first,) = pending.calls
        if self.hedge_after_seconds is None:
            return first
        done: SimpleQueue[Any] = SimpleQueue()
        first.add_done_callback(done.put)
        try:
            return done.get(timeout=pending.seconds_until(self.hedge_after_seconds))
        except Empty:
            second = self._hedge(pending)
        if second is not None:
            second.add_done_callback(done.put)
        finished = done.get()
        return finished if second is None or finished.code() == grpc.StatusCode.OK else done.get()

    def _index(self, error: grpc.RpcError) -> Any | None:
        if self._is_plain(error):
            return None
        try:
            return self._stub.RepositoryIndex(
                INDEX_REQUEST, timeout=INDEX_TIMEOUT_SECONDS, metadata=self.access.metadata
            )
        except grpc.RpcError as refusal:
            return self._hidden(refusal)


@dataclass(eq=False)
class AsyncClient(GrpcEndpoint):
    """A client to await. It belongs to the event loop in which it is first used; tasks of that loop may share it."""

    _channel: Any = field(default=None, init=False, repr=False)

    async def contract(self) -> Contract:
        """As `Client.contract`."""
        if self._contract is None:
            pending = self._ask("ModelConfig", self._config_request())
            self._contract = Contract.from_config((await self._answer(pending)).config)
        return self._contract

    async def classify(self, rows: Iterable[Row] | AsyncIterable[Row]) -> list[Prediction]:
        """As `Client.classify`."""
        return [prediction async for prediction in self.stream(rows)]

    async def stream(self, rows: Iterable[Row] | AsyncIterable[Row]) -> AsyncIterator[Prediction]:
        """As `Client.stream`; the rows may come asynchronously too."""
        exchange = self._exchange(await self.contract(), rows)
        waiting: deque[tuple[Request, Pending]] = deque()
        try:
            async for request in _requests(exchange, rows):
                waiting.append((request, self._infer(request)))
                if len(waiting) >= self.in_flight:
                    for prediction in await self._oldest(exchange, waiting):
                        yield prediction
            while waiting:
                for prediction in await self._oldest(exchange, waiting):
                    yield prediction
        finally:
            for _, pending in waiting:
                pending.end(error="cancelled")

    async def close(self) -> None:
        """As `Client.close`."""
        self._stub = Closed()
        if self._channel is not None:
            await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _method(self, name: str) -> Any:
        if self._stub is None:
            self._channel = self.access.channel(self.url, grpc.aio)  # binds to the running event loop
            self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        return getattr(self._stub, name)

    async def _oldest(self, exchange: Exchange, waiting: deque[tuple[Request, Pending]]) -> Iterator[Prediction]:
        response = await self._answer(waiting[0][1])
        return exchange.receive(waiting.popleft()[0], response)

    async def _answer(self, pending: Pending) -> Any:
        while True:
            try:
                response = await (await self._finished(pending))
            except asyncio.CancelledError:
                if (task := asyncio.current_task()) and not task.cancelling():  # nobody cancelled it: `close` did
                    self._method("ModelInfer")  # says so
                raise
            except grpc.RpcError as error:
                pause_seconds = self._pause(pending, error)
                if pause_seconds is None:
                    raise self._given_up(pending, error, await self._index(error)) from error
                await asyncio.sleep(pause_seconds)
                pending.send_again()
            else:
                pending.end(response)
                return response

    async def _finished(self, pending: Pending) -> Any:
        """As `Client._finished`."""
        (first,) = pending.calls
        if self.hedge_after_seconds is None:
            return first
        done: asyncio.Queue[Any] = asyncio.Queue()
        first.add_done_callback(done.put_nowait)
        try:
            async with asyncio.timeout(pending.seconds_until(self.hedge_after_seconds)):
                return await done.get()  # not `wait_for`, which after 0 seconds would not take what is there
        except TimeoutError:
            second = self._hedge(pending)
        if second is not None:
            second.add_done_callback(done.put_nowait)
        finished = await done.get()
        return finished if second is None or await finished.code() == grpc.StatusCode.OK else await done.get()

    async def _index(self, error: grpc.RpcError) -> Any | None:
        if self._is_plain(error):
            return None
        try:
            return await self._stub.RepositoryIndex(
                INDEX_REQUEST, timeout=INDEX_TIMEOUT_SECONDS, metadata=self.access.metadata
            )
        except grpc.RpcError as refusal:
            return self._hidden(refusal)


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
