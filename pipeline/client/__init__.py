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
"""

from pipeline.client.access import Access
from pipeline.client.comparison import Comparison
from pipeline.client.contract import Contract
from pipeline.client.exchange import Prediction, Row
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
