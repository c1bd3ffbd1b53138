import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from pipeline.client.contract import Contract
from pipeline.client.exchange import BATCH_BYTES, ROW_BYTES, Exchange
from pipeline.errors import DataError, RequestError

TEXT = Contract("text", ("even", "odd"), None, max_batch_size=4)
FEATURES = Contract("features", ("even", "odd"), 3, max_batch_size=4)


def exchange_of(contract, batch_size=None, in_flight=3):
    return Exchange(contract, "model", "", batch_size, in_flight)


def texts_in(message):
    content, texts = message.raw_input_contents[0], []
    while content:
        (size,) = struct.unpack_from("<I", content)
        texts.append(content[4 : 4 + size])
        content = content[4 + size :]
    return texts


def sequences_in(message):
    tensors = {
        item.name: (item.shape, raw) for item, raw in zip(message.inputs, message.raw_input_contents, strict=True)
    }
    features = np.frombuffer(tensors["features"][1], np.float32).reshape(tensors["features"][0])
    lengths = np.frombuffer(tensors["lengths"][1], np.int64).reshape(tensors["lengths"][0])
    return features, lengths


def answer(values, labels, valid=None):
    """The response of a server that gives each row the probability `value` of being odd."""
    response = service_pb2.ModelInferResponse(model_name="model")
    probabilities = np.array([[1 - value, value] for value in values], np.float32)
    tensors = [
        ("probabilities", "FP32", (len(values), 2), probabilities.tobytes()),
        ("label", "BYTES", (len(values), 1), b"".join(struct.pack("<I", len(label)) + label for label in labels)),
    ]
    if valid is not None:
        tensors.append(("valid", "BOOL", (len(values), 1), np.array(valid, bool).tobytes()))
    for name, datatype, shape, content in tensors:
        response.outputs.add(name=name, datatype=datatype, shape=shape)
        response.raw_output_contents.append(content)
    return response


def value_of(text):
    return (hash(text) % 1000) / 1000


def text_answer(request):
    values = [value_of(text) for text in texts_in(request.message)]
    return answer(values, [b"odd" if value > 0.5 else b"even" for value in values], [True] * len(values))


@given(
    rows=st.lists(st.binary(max_size=12), max_size=60),
    batch_size=st.integers(1, 9) | st.none(),
    in_flight=st.integers(1, 5),
    late=st.randoms(use_true_random=False),
)
def test_every_row_is_sent_once_and_answered_in_its_place(rows, batch_size, in_flight, late):
    exchange = exchange_of(TEXT, batch_size, in_flight)
    requests = list(exchange.requests(rows))
    assert all(1 <= len(request.rows) <= min(batch_size or 4, 4) for request in requests)
    assert sorted(number for request in requests for number in request.rows) == list(range(len(rows)))
    late.shuffle(requests)
    predictions = [prediction for request in requests for prediction in exchange.receive(request, text_answer(request))]
    assert [prediction.probabilities["odd"] for prediction in predictions] == pytest.approx(list(map(value_of, rows)))


@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=60), in_flight=st.integers(1, 5))
def test_sequences_travel_unchanged_with_their_lengths_and_zeros_behind_them(lengths, in_flight):
    rows = [np.full((length, 3), number + 1, np.float32) for number, length in enumerate(lengths)]
    for request in exchange_of(FEATURES, in_flight=in_flight).requests(rows):
        features, sent_lengths = sequences_in(request.message)
        assert sent_lengths.tolist() == [[lengths[number]] for number in request.rows]
        for number, row, length in zip(request.rows, features, sent_lengths[:, 0], strict=True):
            assert (row[:length] == rows[number]).all()
            assert (row[length:] == 0).all()


def test_sequences_of_one_length_travel_together():
    rows = [np.ones((length, 3)) for length in [5, 90, 5, 90, 5, 90, 5, 90]]
    shapes = [tuple(request.message.inputs[0].shape) for request in exchange_of(FEATURES).requests(rows)]
    assert shapes == [(4, 5, 3), (4, 90, 3)]


def test_a_batch_holds_no_more_bytes_than_its_budget():
    rows = [b"x" * (BATCH_BYTES // 3)] * 7
    assert [len(request.rows) for request in exchange_of(TEXT).requests(rows)] == [3, 3, 1]


def test_a_row_larger_than_the_budget_travels_alone():
    exchange = exchange_of(TEXT)
    assert [len(request.rows) for request in exchange.requests([b"x", b"y" * (BATCH_BYTES + 1), b"z"])] == [2, 1]


def test_a_stream_is_read_no_further_than_one_window():
    read = []
    requests = exchange_of(TEXT, in_flight=2).requests(read.append(number) or b"x" for number in range(1000))
    next(requests)
    assert len(read) == 2 * TEXT.max_batch_size


def test_a_row_that_fits_no_message_is_refused():
    with pytest.raises(DataError, match=r"row 1: got 67,\d+,\d+ bytes, wanted at most 67,043,328"):
        list(exchange_of(TEXT).requests([b"x", b"x" * (ROW_BYTES + 1)]))


def test_text_is_sent_as_its_bytes_and_lone_surrogates_as_bytes_that_are_not_text():
    (request,) = exchange_of(TEXT).requests(["é", b"\xff", "\udcff"])
    sent = dict(zip(request.rows, texts_in(request.message), strict=True))
    assert (sent[0], sent[1]) == ("é".encode(), b"\xff")
    with pytest.raises(UnicodeDecodeError, match="invalid continuation byte"):
        sent[2].decode()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (np.zeros((4, 2)), r"row 1: got shape \(4, 2\), wanted numbers of shape \(frames, 3\)"),
        (np.zeros(3), r"row 1: got shape \(3,\), wanted"),
        (np.zeros((0, 3)), r"row 1: got shape \(0, 3\), wanted .* at least one frame"),
        ([[1, 2, 3], [4, 5]], r"row 1: not a table of numbers"),
        ([["a", "b", "c"]], r"row 1: not a table of numbers"),
        ("a text", r"row 1: got str, wanted numbers"),
        ([[0, 0, 0], [0, np.nan, 0]], r"row 1, frame 1, column 1: not a finite float32 number"),
        ([[0, 0, 1e39]], r"row 1, frame 0, column 2: not a finite float32 number"),
    ],
)
def test_a_sequence_that_the_model_cannot_take_is_refused_by_its_number(row, message):
    with pytest.raises(DataError, match=message):
        list(exchange_of(FEATURES).requests([np.ones((1, 3)), row]))


def test_a_row_that_is_not_text_is_refused_by_its_number():
    with pytest.raises(DataError, match="row 1: got int, wanted text"):
        list(exchange_of(TEXT).requests(["good", 5]))


def test_a_prediction_holds_label_probability_and_validity():
    exchange = exchange_of(TEXT)
    (request,) = exchange.requests([b"\xff"])
    (prediction,) = exchange.receive(request, answer([0.25], [b"even"], [False]))
    assert (prediction.label, prediction.probability, prediction.valid) == ("even", 0.75, False)
    assert prediction.probabilities == {"even": 0.75, "odd": 0.25}


@pytest.mark.parametrize("valid", [True, False])
def test_features_are_as_valid_as_the_server_says(valid):
    exchange = exchange_of(FEATURES)
    (request,) = exchange.requests([np.ones((1, 3))])
    (prediction,) = exchange.receive(request, answer([1.0], [b"odd"], [valid]))
    assert prediction.valid is valid


def test_an_answer_without_an_output_is_refused():
    exchange = exchange_of(TEXT)
    (request,) = exchange.requests(["a"])
    with pytest.raises(RequestError, match="model: the answer's `valid`: got none, wanted \\(1, 1\\)"):
        list(exchange.receive(request, answer([0.5], [b"odd"])))


def test_an_answer_for_another_number_of_rows_is_refused():
    exchange = exchange_of(FEATURES)
    (request,) = exchange.requests([np.ones((1, 3))])
    with pytest.raises(RequestError, match=r"`probabilities`: got \(2, 2\), wanted \(1, 2\)"):
        list(exchange.receive(request, answer([0.5, 0.5], [b"odd", b"odd"])))
