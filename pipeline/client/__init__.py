"""Ask a served classifier from Python, one answer or millions, sync or async.

::

    from pipeline.client import Client

    with Client("127.0.0.1:8001", "sentiment") as client:
        for prediction in client.classify(["What a lovely film!", "What a bore."]):
            print(prediction.label, prediction.probability)

The client learns the model's contract (text or features, label names, largest batch) from the server itself. It cuts
rows into requests the server accepts, keeps several in flight, and returns answers in the order of the rows; `stream`
does so lazily, for rows without end. Rows of similar size travel together, so that little is padded.

Threads may share one `Client`, each with its own `stream`. An `AsyncClient` belongs to one event loop.

::

    access.py       TLS and tokens, and plain words for what they refuse
    endpoint.py     whom to ask, and why an answer failed to come
    contract.py     what the model takes and gives
    prediction.py   what the model says of a row
    exchange.py     rows to requests, answers to predictions; no input or output of its own
    over_grpc.py    what both clients decide alike
    retries.py      deadline, retries, hedging and their budget
    tracing.py      a span for each request
    transport.py    `Client` waits, `AsyncClient` awaits
    over_http.py    the same over HTTP, for `pipeline verify`
    request_log.py  a sample of rows and answers, for `pipeline drift`
    split.py        a candidate beside production: canary and shadow
    comparison.py   what was seen of both
    stop_rule.py    when the candidate is asked no more
    control.py      which models a server has; load, unload; how busy it was
    prepared.py     requests made ahead of time, for `pipeline bench serve`
    closing.py      what a with-statement closes
"""

from pipeline.client.access import Access
from pipeline.client.comparison import Comparison
from pipeline.client.contract import Contract
from pipeline.client.exchange import Row
from pipeline.client.prediction import Prediction
from pipeline.client.request_log import RequestLog
from pipeline.client.retries import Counters
from pipeline.client.split import Split
from pipeline.client.stop_rule import StopRule
from pipeline.client.transport import AsyncClient, Client

__all__ = [
    "Access",
    "AsyncClient",
    "Client",
    "Comparison",
    "Contract",
    "Counters",
    "Prediction",
    "RequestLog",
    "Row",
    "Split",
    "StopRule",
]
