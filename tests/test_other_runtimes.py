"""The published model in ONNX Runtimes that know nothing of this package: Triton 24.10's and the newest."""

import json
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from pipeline.run_directory import RunDirectory
from pipeline.runtime import open_session
from pipeline.targets import TARGETS, Target
from pipeline.verify.cases import HOSTILE_TEXTS

SCRIPT = """
import json, sys
import numpy as np, onnxruntime
assert "pipeline" not in sys.modules
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
rows = [bytes.fromhex(row) for row in json.load(sys.stdin)]
answers = []
for start in range(0, len(rows), 8):
    texts = np.array(rows[start : start + 8], dtype=f"S{max(map(len, rows)) + 1}")[:, None]
    probabilities, label, valid = session.run(["probabilities", "label", "valid"], {"text": texts})
    answers += zip(probabilities.tolist(), label[:, 0].tolist(), valid[:, 0].tolist())
print(json.dumps({"version": onnxruntime.__version__, "answers": answers}))
"""
LOADING = """
import sys, onnxruntime
for model in sys.argv[1:]:
    try:
        onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        print("loads")
    except Exception:
        print("refused")
"""


@pytest.mark.network
@pytest.mark.parametrize(
    "requirements", [("onnxruntime==1.19.2", "numpy<2"), ("onnxruntime",)], ids=["oldest", "newest"]
)
def test_the_published_model_gives_the_same_answers_without_this_package(
    requirements: tuple[str, ...], published_repository: Path, variant_run: RunDirectory, tmp_path: Path
) -> None:
    python = installed(tmp_path / "venv", *requirements)
    models = {published_repository / "opinions" / "1" / "model.onnx": 1e-5, variant_run / "model.int8.onnx": 1e-3}
    for model, tolerance in models.items():
        assert_same_answers(python, model, tolerance, is_oldest=len(requirements) == 2)


def assert_same_answers(python: Path, model: Path, tolerance: float, *, is_oldest: bool) -> None:
    texts = [
        b"the film is lovely",
        "电影 不好".encode(),
        b"her song never works",
        *(raw for _, raw in HOSTILE_TEXTS[:-1]),
    ]
    asked = subprocess.run(
        [str(python), "-c", SCRIPT, str(model)],
        input=json.dumps([raw.hex() for raw in texts]),
        capture_output=True,
        text=True,
        check=True,
    )
    given = json.loads(asked.stdout)
    theirs, ours = (tuple(map(int, text.split(".")[:2])) for text in (given["version"], onnxruntime.__version__))
    assert theirs == (1, 19) if is_oldest else theirs >= ours
    session = open_session(model)
    for raw, (probabilities, label, valid) in zip(texts, given["answers"], strict=True):
        feed = np.array([[raw]], dtype=f"S{len(raw) + 1}")
        expected = session.run(["probabilities", "label", "valid"], {"text": feed})
        assert np.abs(expected[0][0] - probabilities).max() <= tolerance
        assert (expected[1][0, 0], bool(expected[2][0, 0])) == (label, valid)


@pytest.mark.network
@pytest.mark.parametrize("target", TARGETS.values(), ids=str)
def test_the_table_of_releases_says_what_their_onnx_runtimes_load(target: Target, tmp_path: Path) -> None:
    python = installed(
        tmp_path / "venv", f"onnxruntime=={target.onnxruntime}", "numpy<2" if "1.19" in str(target) else "numpy"
    )
    forms = [
        (target.opset, target.ir_version),
        (target.opset + 1, target.ir_version),
        (target.opset, target.ir_version + 1),
    ]
    for number, (opset, ir_version) in enumerate(forms):
        (tmp_path / f"{number}.onnx").write_bytes(smallest_model(opset, ir_version))
    models = [str(tmp_path / f"{number}.onnx") for number in range(len(forms))]
    asked = subprocess.run([str(python), "-c", LOADING, *models], capture_output=True, text=True, check=True)
    assert asked.stdout.split() == ["loads", "refused", "refused"]


def smallest_model(opset: int, ir_version: int) -> bytes:
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "smallest", tensors[:1], tensors[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)
    return model.SerializeToString()


def installed(folder: Path, *requirements: str) -> Path:
    """Return the Python of a new environment that holds these and nothing else."""
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", *requirements], check=True
    )
    return python
