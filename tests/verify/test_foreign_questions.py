"""Questions that cannot be asked: one line, what to do next, and the exit code; no record is written."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper

from pipeline.commands import main
from tests.verify.foreign_models import LINEAR, save, signature, tensor

Write = Callable[[str], str]

MODULE = """
import torch

class Network(torch.nn.Module):
    def forward(self, x):
        return x @ torch.zeros(4, 3)

def broken(x):
    raise ValueError("no weights\\nsecond line")

def unmade():
    raise OSError("weights.pt is gone")

def right(x):
    return x @ torch.zeros(4, 3).numpy()

number = 3
network = Network()
"""
ROWS = {"x": np.zeros((3, 4), np.float32)}
QUESTIONS = {
    "neither": ([], 2, "give a RUN, or --model FILE with --reference: exactly one of the two"),
    "both": (["runs/x", "--model", "m.onnx"], 2, "exactly one of the two"),
    "no reference": (["--model", "m.onnx"], 2, "--model needs --reference FILE.onnx or package.module:attribute"),
    "a run's option": (["--model", "m.onnx", "--reference", "MODULE:right", "--endpoint", "x:1"], 2,
                       "--endpoint goes with a RUN alone"),
    "a model's option": (["runs/x", "--absolute", "1"], 2, "--absolute goes with --model alone"),
    "no model": (["--model", "no.onnx", "--reference", "MODULE:right"], 2, "no.onnx: no such file"),
    "no ONNX": (["--model", "MODULE.py", "--reference", "MODULE:right"], 1, "not an ONNX model"),
    "no other model": (["--model", "m.onnx", "--reference", "no.onnx"], 2, "no.onnx: no such file"),
    "no colon": (["--model", "m.onnx", "--reference", "MODULE"], 2, "wanted FILE.onnx or package.module:attribute"),
    "no module": (["--model", "m.onnx", "--reference", "nowhere.here:f"], 2, "no module nowhere in "),
    "no attribute": (["--model", "m.onnx", "--reference", "MODULE:nothing"], 2, "MODULE has no nothing"),
    "a class": (["--model", "m.onnx", "--reference", "MODULE:Network"], 2, "a class; name an instance of it"),
    "a number": (["--model", "m.onnx", "--reference", "MODULE:number"], 2, "int can neither be called nor predict"),
    "a reference that raises": (["--model", "m.onnx", "--reference", "MODULE:broken"], 1,
                                "raised ValueError: no weights (at batch 1)"),
    "a factory that raises": (["--model", "m.onnx", "--reference", "MODULE:unmade"], 1,
                              "raised OSError: weights.pt is gone"),
    "text into PyTorch": (["--model", "text.onnx", "--reference", "MODULE:network"], 2,
                          "PyTorch has no text tensors for x; name a function"),
    "no engine": (["--model", "m.onnx", "--reference", "MODULE:right", "--engine", "pytorch"], 2,
                  "pytorch: no engine that runs any model; there are cpu, "),
    "no axis": (["--model", "m.onnx", "--reference", "MODULE:right", "--axis", "seq=3"], 2,
                "--axis seq: no such axis; the inputs have batch"),
    "no sizes": (["--model", "m.onnx", "--reference", "MODULE:right", "--axis", "batch=0"], 2,
                 "batch=0: wanted NAME=SIZE,SIZE"),
    "too large": (["--model", "m.onnx", "--reference", "MODULE:right", "--axis", "batch=20000000"], 2,
                  "x: 80,000,000 numbers at batch 20000000; at most 50,000,000"),
    "whole numbers": (["--model", "ids.onnx", "--reference", "MODULE:right"], 2,
                      "x: whole numbers; say their least and most (number or axis) in --signature"),
    "no signature": (["--model", "m.onnx", "--reference", "MODULE:right", "--signature", "no.json"], 2,
                     "no.json: no such file"),
    "no JSON": (["--model", "m.onnx", "--reference", "MODULE:right", "--signature", "MODULE.py"], 1,
                "MODULE.py: not a signature"),
    "no such dtype": (["--model", "m.onnx", "--reference", "MODULE:right", "--signature", "dtype.json"], 1,
                      "x: dtype 'float' is none of STRING"),
    "no such limit": (["--model", "m.onnx", "--reference", "MODULE:right", "--signature", "limit.json"], 1,
                      "x: most 'seq' is no axis of the inputs"),
    "no range": (["--model", "m.onnx", "--reference", "MODULE:right", "--signature", "range.json"], 1,
                 "x: least 5 is more than most 4"),
    "half a range": (["--model", "m.onnx", "--reference", "MODULE:right", "--signature", "half.json"], 1,
                     "x: least 5 without most"),
    "no rows' axis": (["--model", "m.onnx", "--reference", "MODULE:right", "--signature", "axis.json"], 1,
                      "batch_axis 'seq' is not an axis of an input and of every output"),
    "no archive": (["--model", "m.onnx", "--reference", "MODULE:right", "--inputs", "MODULE.py"], 1,
                   "not an archive of arrays"),
    "no array": (["--model", "m.onnx", "--reference", "MODULE:right", "--inputs", "other.npz"], 2,
                 "no array for x; it has z"),
    "pickled": (["--model", "m.onnx", "--reference", "MODULE:right", "--inputs", "pickled.npz"], 1,
                "not an archive of arrays (Object arrays cannot be loaded when allow_pickle=False)"),
    "another shape": (["--model", "m.onnx", "--reference", "MODULE:right", "--inputs", "shape.npz"], 1,
                      "x is float32 [3, 5], wanted FP32 [3, 4]"),
    "no rows": (["--model", "m.onnx", "--reference", "MODULE:right", "--inputs", "none.npz"], 1,
                "x has no rows: [0, 4]"),
}  # fmt: skip


@pytest.mark.parametrize(("words", "code", "message"), QUESTIONS.values(), ids=QUESTIONS)
def test_what_cannot_be_asked_is_said_in_one_line(
    words: list[str], code: int, message: str, module: Write, tmp_path: Path
) -> None:
    name = module(MODULE)
    save(Path("m.onnx"), LINEAR)
    for path, kind in (("text.onnx", TensorProto.STRING), ("ids.onnx", TensorProto.INT64)):
        same = (kind, ("batch",))
        save(Path(path), [helper.make_node("Identity", ["x"], ["y"])], {"x": same}, {"y": same})
    y = [tensor("y", "FP32", "batch", 3)]
    signature(Path("dtype.json"), [tensor("x", "float", "batch", 4)], y)
    signature(Path("limit.json"), [tensor("x", "FP32", "batch", 4, most="seq")], y)
    signature(Path("range.json"), [tensor("x", "FP32", "batch", 4, least=5, most=4)], y)
    signature(Path("half.json"), [tensor("x", "FP32", "batch", 4, least=5)], y)
    signature(Path("axis.json"), [tensor("x", "FP32", "batch", 4)], y, batch_axis="seq")
    np.savez("other.npz", z=ROWS["x"])
    np.savez("pickled.npz", x=np.array([{}], object))
    np.savez("shape.npz", x=np.zeros((3, 5), np.float32))
    np.savez("none.npz", x=ROWS["x"][:0])
    result = CliRunner().invoke(main, ["verify", *(word.replace("MODULE", name) for word in words)])
    assert result.exit_code == code, result.output
    assert message.replace("MODULE", name) in result.stderr
    assert "Traceback" not in result.output
    assert not list(tmp_path.glob("*.parity.json"))
    if "Usage:" not in result.stderr:
        assert result.stderr.count("\n") == 1
