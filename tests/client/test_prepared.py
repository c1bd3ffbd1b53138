"""Answers to requests that were made ahead of time."""

import pytest
from tritonclient.grpc import service_pb2

from pipeline.client.prepared import labels_of
from pipeline.errors import RequestError


def response(*contents: bytes) -> service_pb2.ModelInferResponse:
    made = service_pb2.ModelInferResponse(model_name="words", raw_output_contents=contents)
    made.outputs.add(name="label")
    return made


def test_labels_come_back_in_the_order_in_which_the_rows_were_given() -> None:
    content = b"".join(len(label).to_bytes(4, "little") + label for label in (b"good", b"", b"bad"))
    assert labels_of([2, 0, 1], response(content)) == ["", "bad", "good"]


@pytest.mark.parametrize("contents", [(), (b"\x01\0\0\0\xff",)], ids=["nothing", "no UTF-8"])
def test_labels_that_cannot_be_read_are_an_error_and_no_silence(contents: tuple[bytes, ...]) -> None:
    with pytest.raises(RequestError, match="words: labels that cannot be read"):
        labels_of([0], response(*contents))


def test_as_many_labels_as_rows_are_wanted() -> None:
    with pytest.raises(RequestError, match="words: got 0 labels, wanted 1"):
        labels_of([0], response(b""))
