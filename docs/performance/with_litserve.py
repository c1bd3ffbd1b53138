"""LitServe with PyTorch: ``python with_litserve.py PORT WORKERS``; requests that wait are batched."""

import sys
from itertools import chain, islice
from typing import Any

import litserve
from eager import from_environment


class Classifier(litserve.LitAPI):
    """A request is a list of texts; a batch is a list of requests."""

    def setup(self, device: str) -> None:  # noqa: ARG002 - LitServe's own signature
        """Load the model in a worker."""
        self.classifier = from_environment()

    def decode_request(self, request: dict[str, Any]) -> list[str]:
        """Return the texts of a request."""
        return request["texts"]

    def predict(self, batch: list[list[str]]) -> list[list[str]]:
        """Answer all requests at once."""
        labels = iter(self.classifier.labels(list(chain.from_iterable(batch))))
        return [list(islice(labels, len(texts))) for texts in batch]

    def encode_response(self, labels: list[str]) -> dict[str, list[str]]:
        """Return what one request is answered."""
        return {"labels": labels}


if __name__ == "__main__":
    port, workers = map(int, sys.argv[1:])
    api = Classifier(max_batch_size=64, batch_timeout=0.001, api_path="/classify")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=workers, fast_queue=True)
    server.run(host="127.0.0.1", port=port, log_level="warning", generate_client_file=False)
