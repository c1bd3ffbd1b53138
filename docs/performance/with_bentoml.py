"""BentoML with PyTorch: ``bentoml serve with_bentoml:Classifier``; its adaptive batching joins what waits.

Its `max_latency_ms` is when a request is given up, and from it the batching's first estimates are made: the default, a
minute, makes the first requests wait for seconds, and one near the bound of 50 ms refuses whole batches.
"""

import os

import bentoml
from eager import from_environment


@bentoml.service(workers=int(os.environ["PERFORMANCE_WORKERS"]), traffic={"timeout": 60, "max_concurrency": 4096})
class Classifier:
    """A request is a list of texts; BentoML lays the lists of several requests end to end."""

    def __init__(self) -> None:
        self.classifier = from_environment()

    @bentoml.api(batchable=True, max_batch_size=64, max_latency_ms=10_000)
    def classify(self, texts: list[str]) -> list[str]:
        """Return the label of each text."""
        return self.classifier.labels(texts)
