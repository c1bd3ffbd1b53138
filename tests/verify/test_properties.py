"""Whatever is drawn: PyTorch and ONNX Runtime agree, and a row answers in company as it answers alone."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pipeline.reference import Reference
from pipeline.run_directory import RunDirectory
from pipeline.runtime import open_session
from pipeline.verify.cases import HOSTILE_NUMBERS, HOSTILE_TEXTS
from pipeline.verify.checks import INVARIANCE
from pipeline.verify.engines import Engine, OnnxEngine, TorchEngine
from tests.verify.planted import lengths_ignored, plant

PARITY = 1e-5
KNOWN = ("the film", "电影", "is lovely", "was a bore", "l'été", "\0", "İ", ".")
texts = st.one_of(
    st.text(max_size=80),
    st.binary(max_size=40),
    st.lists(st.sampled_from(KNOWN), max_size=40).map(" ".join),
    st.sampled_from([raw for _, raw in HOSTILE_TEXTS[:-2]]),
)
numbers = st.one_of(
    st.floats(-10, 10, width=32), st.sampled_from(HOSTILE_NUMBERS[:3]), st.floats(width=32, allow_subnormal=True)
)
frames = st.integers(1, 30).flatmap(lambda length: arrays.arrays(np.float32, (length, 2), elements=numbers))


@pytest.fixture(scope="module")
def text_engines(exported_run: RunDirectory) -> tuple[Engine, Engine]:
    return TorchEngine(Reference.load(exported_run)), OnnxEngine(open_session(exported_run / "model.onnx"))


@pytest.fixture(scope="module")
def frame_engines(verified_feature_run: RunDirectory) -> tuple[Engine, Engine]:
    run = verified_feature_run
    return TorchEngine(Reference.load(run)), OnnxEngine(open_session(run / "model.onnx"))


def require_agreement(engines: tuple[Engine, Engine], rows: Sequence[Any]) -> None:
    ours, theirs = (engine.answer(rows) for engine in engines)
    assert ours.valid.tolist() == theirs.valid.tolist()
    assert np.abs(ours.probabilities - theirs.probabilities).max() <= PARITY, "and NaN is not"


def require_independence(engine: Engine, rows: Sequence[Any]) -> None:
    together = engine.answer(rows)
    for number, row in enumerate(rows):
        alone = engine.answer([row])
        assert np.abs(alone.probabilities[0] - together.probabilities[number]).max() <= INVARIANCE.absolute
        assert (alone.labels[0], alone.valid[0]) == (together.labels[number], together.valid[number])


@settings(max_examples=120, deadline=None)
@given(rows=st.lists(texts, min_size=1, max_size=9))
def test_any_texts_answer_alike_in_pytorch_and_onnx(rows: list[str | bytes], text_engines) -> None:
    require_agreement(text_engines, rows)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(texts, min_size=2, max_size=6))
def test_any_text_answers_in_company_as_alone(rows: list[str | bytes], text_engines) -> None:
    require_independence(text_engines[1], rows)


@settings(max_examples=120, deadline=None)
@given(rows=st.lists(frames, min_size=1, max_size=9))
def test_any_frames_answer_alike_in_pytorch_and_onnx(rows: list[np.ndarray], frame_engines) -> None:
    require_agreement(frame_engines, rows)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(frames, min_size=2, max_size=6))
def test_any_frames_answer_in_company_as_alone(rows: list[np.ndarray], frame_engines) -> None:
    require_independence(frame_engines[1], rows)


def test_both_properties_fail_for_a_model_that_reads_the_padding(exported_run: RunDirectory, copy_of) -> None:
    run = copy_of(exported_run)
    plant(run, lengths_ignored)
    engines = TorchEngine(Reference.load(run)), OnnxEngine(open_session(run / "model.onnx"))
    rows = ["the film is lovely", "電"]
    with pytest.raises(AssertionError):
        require_agreement(engines, rows)
    with pytest.raises(AssertionError):
        require_independence(engines[1], rows)
