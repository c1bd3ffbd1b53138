"""What the Python-based backend answers, asked over gRPC as a client would."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime
import pytest
import tritonclient.grpc as triton

from tests.serve.asking import ask, column
from tests.serve.tiny_models import CLASSES, feature_model, text_model

CLEAN = [b"a good film", b"awful, awful", b"fine", "große Klasse".encode(), b"great great great dull"]
HOSTILE = [b"\xff\xfe good", b"good\0awful", b"", b"   ", b"good " * 100_000]


def run_here(texts: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(text_model().SerializeToString(), providers=["CPUExecutionProvider"])
    width = max(map(len, texts.ravel())) + 1
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"text": texts.astype(f"S{width}")}), strict=True))


def features(lengths: list[int], seed: int = 0) -> dict[str, np.ndarray]:
    values = np.random.default_rng(seed).normal(size=(len(lengths), max(lengths), 3)).astype(np.float32)
    return {"features": values, "lengths": np.array(lengths, np.int64)[:, None]}


def test_a_text_model_answers_bit_for_bit_as_onnx_runtime_in_process(client):
    texts = column(*CLEAN, *HOSTILE)
    got, wanted = ask(client, "words", text=texts), run_here(texts)
    assert got["probabilities"].tobytes() == wanted["probabilities"].tobytes()
    assert got["label"].ravel().tolist() == [label.encode() for label in wanted["label"].ravel()]
    assert got["valid"].tolist() == wanted["valid"].tolist()
    assert got["valid"].ravel().tolist() == [True] * len(CLEAN) + [False] + [True] * 4


def test_a_feature_model_answers_bit_for_bit_as_onnx_runtime_in_process(client):
    inputs = features([7, 1, 4])
    session = onnxruntime.InferenceSession(feature_model().SerializeToString(), providers=["CPUExecutionProvider"])
    wanted, labels = session.run(["probabilities", "label"], inputs)
    got = ask(client, "frames", **inputs)
    assert got["probabilities"].tobytes() == wanted.tobytes()
    assert got["label"].ravel().tolist() == [label.encode() for label in labels.ravel()]


def test_a_text_is_cut_at_its_first_nul(client):
    got = ask(client, "words", text=column(b"good\0awful", b"good"))["probabilities"]
    assert got[0].tobytes() == got[1].tobytes()


def test_only_the_outputs_that_were_asked_for_come_back(client):
    assert ask(client, "words", outputs=("valid",), text=column(b"good")).keys() == {"valid"}
    assert ask(client, "words", text=column(b"good")).keys() == {"probabilities", "label", "valid"}


def test_callers_who_want_different_outputs_share_a_batch(client):
    wanted = [("valid",), ("label", "probabilities"), ("probabilities",)] * 40
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda names: ask(client, "words", outputs=names, text=column(b"good")), wanted))
    assert [set(answer) for answer in answers] == [set(names) for names in wanted]


def test_requests_of_many_callers_are_joined_into_batches(client):
    before = counts(client, "words")
    with ThreadPoolExecutor(32) as threads:
        list(threads.map(lambda _: ask(client, "words", text=column(b"a good film")), range(600)))
    inferences, executions = counts(client, "words") - before
    assert inferences >= 600
    assert executions < inferences  # how many are joined is a matter of load; without batching none are


def test_sequences_of_different_lengths_asked_at_once_are_each_answered_as_alone(client):
    asked = [features([1 + number % 5], seed=number) for number in range(60)]
    with ThreadPoolExecutor(16) as threads:
        together = list(threads.map(lambda inputs: ask(client, "frames", **inputs), asked))
    for inputs, answer in zip(asked, together, strict=True):
        alone = ask(client, "frames", **inputs)
        assert np.abs(alone["probabilities"] - answer["probabilities"]).max() <= 1e-6


def test_no_answer_changes_while_one_of_64_callers_sends_hostile_texts(client):
    alone = {text: ask(client, "words", text=column(text)) for text in CLEAN}

    def caller(number: int) -> None:
        for turn in range(10):
            if number == 0:
                ask(client, "words", text=column(HOSTILE[turn % len(HOSTILE)]))
                continue
            text = CLEAN[(number + turn) % len(CLEAN)]
            answer = ask(client, "words", text=column(text))
            assert all(answer[name].tolist() == alone[text][name].tolist() for name in answer)

    with ThreadPoolExecutor(64) as threads:
        list(threads.map(caller, range(64)))


def test_a_request_that_fails_in_the_model_fails_alone(client):
    def caller(number: int) -> object:
        try:
            return ask(client, "fragile", text=column(b"\xff" if number % 8 == 0 else b"good film"))["label"].tolist()
        except triton.InferenceServerException as error:
            return error.message()

    with ThreadPoolExecutor(32) as threads:
        answers = list(threads.map(caller, range(320)))
    good = [answer for number, answer in enumerate(answers) if number % 8]
    assert all(answer == good[0] and isinstance(answer, list) for answer in good)
    assert all("utf8" in str(answer).lower().replace("-", "") for answer in answers[::8])


def test_one_very_long_text_among_many_does_not_widen_them_all(client):
    texts = column(*[b"good film"] * 63, b"awful " * 400_000)
    got = ask(client, "words", text=texts)["probabilities"]
    alone = ask(client, "words", text=texts[-1:])["probabilities"]
    assert got[-1].tobytes() == alone[0].tobytes()
    assert len({row.tobytes() for row in got[:-1]}) == 1


def test_reshape_of_the_configuration_is_honoured(client):
    got = ask(client, "flat", texts=column(*CLEAN))
    wanted = ask(client, "words", text=column(*CLEAN))
    assert got["labels"].tolist() == wanted["label"].tolist()
    assert got["labels"].shape == (len(CLEAN), 1)


def test_the_classification_extension_returns_label_names(client):
    tensor = triton.InferInput("text", [2, 1], "BYTES")
    tensor.set_data_from_numpy(column(b"good great", b"awful dull"))
    result = client.infer("words", [tensor], outputs=[triton.InferRequestedOutput("probabilities", class_count=3)])
    rows = [[item.decode().split(":") for item in row] for row in result.as_numpy("probabilities")]
    assert all(name == CLASSES[int(number)] for row in rows for _, number, name in row)
    assert [row[0][2].encode() for row in rows] == ask(client, "words", text=column(b"good great", b"awful dull"))[
        "label"
    ].ravel().tolist()


def test_a_batch_beyond_the_maximum_is_refused_and_named(client):
    with pytest.raises(Exception, match="batch-size must be <= 64"):
        ask(client, "words", text=column(*[b"good"] * 65))


def counts(client: triton.InferenceServerClient, model: str) -> np.ndarray:
    (statistics,) = client.get_inference_statistics(model).model_stats
    return np.array([statistics.inference_count, statistics.execution_count])
