"""A candidate beside the model in production: a share of the requests for it (canary), or their copies (shadow).

::

    with Split(Client(url, "sentiment"), Client(url, "sentiment.candidate"), share=0.05) as split:
        predictions = split.classify(texts)
        print(split.comparison)

No proxy stands between: the caller draws for each request. A request for which the candidate fails is answered by
production, and when the stop rule says so the candidate is asked no more.
"""

import random
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import replace
from itertools import islice

from pipeline.client.closing import Closing
from pipeline.client.comparison import Comparison, Record
from pipeline.client.contract import Contract
from pipeline.client.endpoint import require_rows
from pipeline.client.exchange import Row
from pipeline.client.prediction import Prediction
from pipeline.client.stop_rule import StopRule
from pipeline.client.transport import Client
from pipeline.errors import RequestError, ServerError, UsageError


class Split(Closing):
    """Production's client and a candidate's, to be used as one `Client`; threads may share it.

    A request is one call of `classify`, or one batch of `stream`. In a canary, a candidate that fails costs its caller
    the time of two requests; give its client a shorter `timeout_seconds` than production's.

    Args:
        production: its answers are the callers', but for a canary's share; closed with this.
        candidate: the client to compare, closed with this too.
        share: the part of all requests that the candidate is sent, from 0 to 1.
        shadow: production answers every request; the candidate gets a copy after the answer, and delays nobody.
        rule: when the candidate is asked no more.
        seed: of the draw; None for another one each time.

    Raises:
        UsageError: the share is out of range.
    """

    def __init__(
        self,
        production: Client,
        candidate: Client,
        *,
        share: float = 0.05,
        shadow: bool = False,
        rule: StopRule | None = None,
        seed: int | None = None,
    ) -> None:
        if not 0 <= share <= 1:
            raise UsageError(f"share of the candidate: wanted 0 to 1, got {share}.")
        self.production, self.candidate, self.share, self.shadow = production, candidate, share, shadow
        self._record = Record(rule or StopRule())
        self._random = random.Random(seed)  # noqa: S311  a sample, not a secret
        self._requests = ThreadPoolExecutor(production.in_flight, "pipeline-split")
        self._shadows = ThreadPoolExecutor(candidate.in_flight, "pipeline-shadow")
        self._behind: set[Future[None]] = set()

    @property
    def comparison(self) -> Comparison:
        """What has been seen so far."""
        return self._record.comparison()

    @property
    def stopped(self) -> str:
        """Why the candidate is asked no more; empty while it is."""
        return self._record.stopped

    def contract(self) -> Contract:
        """As `Client.contract`, of production."""
        return self.production.contract()

    def classify(self, rows: Iterable[Row]) -> list[Prediction]:
        """As `Client.classify`; only production's failures are raised."""
        require_rows(rows)
        rows = list(rows)
        is_drawn = not self.stopped and self._random.random() < self.share
        if is_drawn and not self.shadow and (predictions := self._of_candidate(rows)) is not None:
            return predictions
        predictions = self._of_production(rows)
        if is_drawn and self.shadow:
            self._cast_shadow(rows, predictions)
        return predictions

    def stream(self, rows: Iterable[Row]) -> Iterator[Prediction]:
        """As `Client.stream`, with the draw for each batch."""
        require_rows(rows)
        rows, limit = iter(rows), self.contract().max_batch_size
        size = min(self.production.batch_size or limit, limit)
        waiting: deque[Future[list[Prediction]]] = deque()
        try:
            while batch := list(islice(rows, size)):
                waiting.append(self._requests.submit(copy_context().run, self.classify, batch))
                if len(waiting) >= self.production.in_flight:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

    def close(self) -> None:
        """Wait for the shadows that are on their way, and close both clients."""
        self._requests.shutdown()
        self._shadows.shutdown()
        self.production.close()
        self.candidate.close()

    def _of_production(self, rows: list[Row]) -> list[Prediction]:
        begun = time.perf_counter()
        predictions = self.production.classify(rows)
        self._record.answered_by_production(time.perf_counter() - begun, predictions)
        return predictions

    def _of_candidate(self, rows: list[Row]) -> list[Prediction] | None:
        """Return its predictions; None when it failed."""
        wanted, begun = self.contract(), time.perf_counter()
        try:
            if replace(self.candidate.contract(), max_batch_size=wanted.max_batch_size) != wanted:
                raise RequestError(f"{self.candidate.model} has another signature than {self.production.model}.")
            predictions = self.candidate.classify(rows)
        except ServerError as error:
            self._record.failed(str(error))
            return None
        self._record.answered_by_candidate(time.perf_counter() - begun, predictions)
        return predictions

    def _cast_shadow(self, rows: list[Row], predictions: list[Prediction]) -> None:
        if len(self._behind) >= 2 * self.candidate.in_flight:
            self._record.skipped()
            return
        future = self._shadows.submit(self._compare, rows, predictions)
        self._behind.add(future)
        future.add_done_callback(self._behind.discard)

    def _compare(self, rows: list[Row], expected: list[Prediction]) -> None:
        if not self.stopped and (predictions := self._of_candidate(rows)) is not None:
            self._record.compared(expected, predictions)
