import json

import pytest
from tritonclient.grpc import model_config_pb2

from pipeline.client import Contract
from pipeline.errors import RequestError

TYPES = {name: model_config_pb2.DataType.Value(f"TYPE_{name}") for name in ("STRING", "FP32", "INT64", "BOOL", "INT32")}


def config_of(inputs, outputs, classes=None, max_batch_size=64):
    config = model_config_pb2.ModelConfig(name="sentiment", max_batch_size=max_batch_size)
    for name, datatype, *dims in inputs:
        config.input.add(name=name, data_type=TYPES[datatype], dims=dims)
    for name, datatype, *dims in outputs:
        config.output.add(name=name, data_type=TYPES[datatype], dims=dims)
    if classes is not None:
        config.parameters["classes"].string_value = classes
    return config


TEXT_INPUTS = [("text", "STRING", 1)]
OUTPUTS = [("probabilities", "FP32", 2), ("label", "STRING", 1), ("valid", "BOOL", 1)]
FEATURE_INPUTS = [("features", "FP32", -1, 12), ("lengths", "INT64", 1)]


def test_a_text_model_is_read_from_its_configuration():
    config = config_of(TEXT_INPUTS, OUTPUTS, json.dumps(["negative", "positive"]))
    assert Contract.from_config(config) == Contract("text", ("negative", "positive"), None, 64)


def test_a_feature_model_is_read_from_its_configuration():
    config = config_of(FEATURE_INPUTS, OUTPUTS, json.dumps(["a", "b"]), 8)
    assert Contract.from_config(config) == Contract("features", ("a", "b"), 12, 8)


def test_classes_without_names_are_numbers():
    assert Contract.from_config(config_of(TEXT_INPUTS, OUTPUTS)).classes == ("0", "1")


def test_a_model_without_batching_takes_one_row_at_a_time():
    inputs = [(name, datatype, -1, *dims) for name, datatype, *dims in TEXT_INPUTS]
    outputs = [(name, datatype, -1, *dims) for name, datatype, *dims in OUTPUTS]
    assert Contract.from_config(config_of(inputs, outputs, max_batch_size=0)).max_batch_size == 1


@pytest.mark.parametrize(
    ("inputs", "outputs", "classes", "message"),
    [
        ([("image", "FP32", 3)], OUTPUTS, None, r"input `text`: got none, wanted STRING \[1\]"),
        ([("text", "STRING", -1)], OUTPUTS, None, r"input `text`: got STRING \[-1\], wanted STRING \[1\]"),
        (TEXT_INPUTS, OUTPUTS[:2], None, r"output `valid`: got none, wanted BOOL \[1\]"),
        (FEATURE_INPUTS, OUTPUTS[:2], None, r"output `valid`: got none, wanted BOOL \[1\]"),
        (TEXT_INPUTS, OUTPUTS, '["a", "b", "c"]', r"`probabilities`: got FP32 \[2\], wanted FP32 \[3\]"),
        (FEATURE_INPUTS[:1], OUTPUTS, None, r"input `lengths`: got none, wanted INT64 \[1\]"),
        ([FEATURE_INPUTS[0], ("lengths", "INT32", 1)], OUTPUTS, None, r"got INT32 \[1\], wanted INT64 \[1\]"),
        (TEXT_INPUTS, OUTPUTS, "not json", "parameter `classes` is not a JSON list"),
        (TEXT_INPUTS, OUTPUTS, "7", "parameter `classes` is not a JSON list"),
    ],
)
def test_a_model_of_another_kind_is_refused(inputs, outputs, classes, message):
    with pytest.raises(RequestError, match=message):
        Contract.from_config(config_of(inputs, outputs, classes))
