"""Model files that nobody vouches for: each is refused, with what was got and what is allowed, and never loaded."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

from pipeline.commands import main
from pipeline.errors import CheckFailed
from pipeline.reference import Reference
from pipeline.run_directory import RunDirectory
from pipeline.signature import Signature
from pipeline.targets import TARGETS
from pipeline.verify import Check, verify
from pipeline.verify.declared import check_graph
from pipeline.verify.model_file import read_model

OUTSIDE = "../../../etc/passwd"


def graph_check(run: RunDirectory, *targets: str) -> Check:
    chosen = tuple(TARGETS[name] for name in targets or TARGETS)
    return check_graph(run, Signature.load(run / "signature.json"), Reference.load(run), chosen)


def edited(run: RunDirectory, edit: Callable[[onnx.ModelProto], None]) -> RunDirectory:
    model = onnx.load(run / "model.onnx")
    edit(model)
    (run / "model.onnx").write_bytes(model.SerializeToString())
    return run


def elsewhere(name: str, location: str = "weights.bin") -> TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    return tensor


def in_an_initializer(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(elsewhere("hidden"))


def in_a_constant(model: onnx.ModelProto) -> None:
    model.graph.node.insert(0, helper.make_node("Constant", [], ["c"], value=elsewhere("hidden")))


def in_a_list_of_tensors(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute.append(helper.make_attribute("tensors", [elsewhere("hidden")]))


def in_a_branch_of_a_branch(model: onnx.ModelProto) -> None:
    inner = helper.make_graph([], "inner", [], [], [elsewhere("hidden")])
    outer = helper.make_graph([helper.make_node("If", ["c"], ["o"], then_branch=inner)], "outer", [], [])
    model.graph.node.append(helper.make_node("If", ["c"], ["o"], then_branch=outer))


def in_a_function(model: onnx.ModelProto) -> None:
    constant = helper.make_node("Constant", [], ["c"], value=elsewhere("hidden"))
    model.functions.append(helper.make_function("mine", "f", [], ["c"], [constant], model.opset_import))


def in_a_sparse_tensor(model: onnx.ModelProto) -> None:
    indices = numpy_helper.from_array(np.zeros(1, np.int64), "indices")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(elsewhere("hidden"), indices, [4]))


HIDING_PLACES = [
    in_an_initializer,
    in_a_constant,
    in_a_list_of_tensors,
    in_a_branch_of_a_branch,
    in_a_function,
    in_a_sparse_tensor,
]


@pytest.mark.parametrize("hide", HIDING_PLACES, ids=lambda hide: hide.__name__)
def test_values_in_another_file_are_found_wherever_they_hide(
    hide: Callable[[onnx.ModelProto], None], exported_run: RunDirectory, copy_of
) -> None:
    check = graph_check(edited(copy_of(exported_run), hide))
    assert not check.passed
    assert check.detail == (
        "got the values of 'hidden' in another file, 'weights.bin'; allowed: all of them in this one file"
    )


@pytest.mark.parametrize("location", [OUTSIDE, "/etc/passwd", r"..\secret", "weights/../../secret"])
def test_a_path_that_leads_out_of_the_run_is_said_to_do_so_and_nothing_is_loaded(
    location: str, exported_run: RunDirectory, copy_of
) -> None:
    run = edited(copy_of(exported_run), lambda model: model.graph.initializer.append(elsewhere("hidden", location)))
    report = verify(run)
    details = {check.name: check.detail for check in report.checks if not check.passed}
    refusal = f"got the values of 'hidden' in another file, {location!r} outside its folder; "
    assert details["graph"].startswith(refusal)
    assert details["load"] == details["graph"], "the same refusal stands before ONNX Runtime"
    assert {check.engine for check in report.checks} == {"files", "cpu"}
    assert not report.passed


def test_a_file_beyond_what_protobuf_reads_is_refused_by_its_size_alone(exported_run: RunDirectory, copy_of) -> None:
    run = copy_of(exported_run)
    os.truncate(run / "model.onnx", 2**31)  # sparse: it takes no room on the disk
    check = graph_check(run)
    assert check.detail == "got 2,147,483,648 bytes; allowed 2,147,483,647, the most that protobuf reads"
    os.truncate(run / "model.onnx", 2**20)
    assert "bytes that are no ONNX" in graph_check(run).detail, "the size is allowed, the zeros are not"


def opset_22(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 22


def ir_11(model: onnx.ModelProto) -> None:
    model.ir_version = 11


@pytest.mark.parametrize(("edit", "got"), [(opset_22, "opset 22, IR 10"), (ir_11, "opset 20, IR 11")])
def test_a_form_is_refused_for_the_releases_that_cannot_read_it_and_for_no_other(
    edit: Callable[[onnx.ModelProto], None], got: str, exported_run: RunDirectory, copy_of
) -> None:
    run = edited(copy_of(exported_run), edit)
    old = graph_check(run, "triton-24.10")
    assert old.detail == f"got {got}; triton-24.10 (ONNX Runtime 1.19.2) allows opset 21, IR 10 at most"
    assert graph_check(run, "triton-26.07").passed
    assert graph_check(run).detail == old.detail, "every known release must read it by default"


def test_the_command_takes_releases_by_name_and_knows_no_others(exported_run: RunDirectory, copy_of) -> None:
    run = edited(copy_of(exported_run), opset_22)
    result = CliRunner().invoke(main, ["verify", str(run.path), "--target", "triton-24.10"])
    assert result.exit_code == 3
    assert "triton-24.10 (ONNX Runtime 1.19.2) allows opset 21" in result.stdout
    assert "triton-26.07" not in result.stdout
    result = CliRunner().invoke(main, ["verify", str(run.path), "--target", "triton-1.0"])
    assert result.exit_code == 2
    assert "--target triton-1.0: not a known Triton release; there are triton-24.10, triton-26.07" in result.stderr


def test_operators_of_a_domain_that_stock_runtimes_lack_are_refused(exported_run: RunDirectory, copy_of) -> None:
    def add(model: onnx.ModelProto) -> None:
        model.opset_import.append(helper.make_opsetid("my.own", 1))

    check = graph_check(edited(copy_of(exported_run), add))
    assert check.detail == "got operators of my.own; allowed those of ai.onnx, ai.onnx.ml, com.microsoft"


def test_another_contract_than_the_signatures_is_refused_with_both(exported_run: RunDirectory, copy_of) -> None:
    run = copy_of(exported_run)
    signature = Signature.load(run / "signature.json")
    text = dataclasses.replace(signature.inputs[0], dtype="INT64")
    dataclasses.replace(signature, inputs=(text,)).save(run / "signature.json")
    check = graph_check(run)
    assert not check.passed
    assert "dtype='STRING'" in check.detail
    assert "dtype='INT64'" in check.detail


def test_a_file_cut_anywhere_is_refused_and_not_loaded(exported_run: RunDirectory, copy_of) -> None:
    run = copy_of(exported_run)
    whole = (run / "model.onnx").read_bytes()
    for length in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        (run / "model.onnx").write_bytes(whole[:length])
        assert not graph_check(run).passed, length


def test_a_healthy_file_is_read(exported_run: RunDirectory, tmp_path: Path) -> None:
    assert read_model(exported_run / "model.onnx").graph.node
    (tmp_path / "text").write_text("no model at all")
    with pytest.raises(CheckFailed, match="got 15 bytes that are no ONNX; wanted a whole model file"):
        read_model(tmp_path / "text")
