"""A served classifier under MLPerf's scenarios: MLCommons LoadGen asks, in a process of its own, and keeps the time.

::

    texts.py        what is asked with
    targets.py      whom to ask: the face of a target, ONNX Runtime in process, Triton
    scenarios.py    when requests come
    measure.py      `measure` and `highest_rate`
    client.py       the client's process
    in_process.py   the connection to ONNX Runtime
    triton.py       the connections to Triton
    http_calls.py   HTTP at little cost
    loadgen.py      one test of LoadGen in it
    measurement.py  what was found
"""

from pipeline.bench.serving.measure import answers, highest_rate, measure
from pipeline.bench.serving.measurement import Measurement
from pipeline.bench.serving.scenarios import MultiStream, Offline, Scenario, Server, SingleStream
from pipeline.bench.serving.targets import Connection, OnnxTarget, Target, TritonTarget
from pipeline.bench.serving.texts import read_texts

__all__ = [
    "Connection",
    "Measurement",
    "MultiStream",
    "Offline",
    "OnnxTarget",
    "Scenario",
    "Server",
    "SingleStream",
    "Target",
    "TritonTarget",
    "answers",
    "highest_rate",
    "measure",
    "read_texts",
]
