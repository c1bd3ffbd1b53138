"""diff: nothing between two versions of one run, everything that is otherwise between two runs."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result

from pipeline.errors import UsageError
from pipeline.publish import publish
from pipeline.release import diff
from pipeline.repository.goldens import Goldens
from pipeline.repository.version import Version
from pipeline.run_directory import RunDirectory
from tests.release.conftest import NAME

Invoke = Callable[..., Result]


def test_two_versions_of_one_run_differ_in_nothing(repository: Path) -> None:
    found = diff(repository, NAME, 1, 3)
    assert (found.contract, found.config, found.hashes, found.labels) == ({}, {}, {}, ())
    assert found.max_probability_change == 0
    assert found.rows == len(Goldens.load(repository / NAME / "1").rows)


def test_versions_of_two_runs_differ_in_bytes_figures_and_answers(repository: Path) -> None:
    found = diff(repository, NAME, 1, 2)
    assert found.contract == {}
    manifests = [json.loads((repository / NAME / n / "manifest.json").read_text()) for n in ("1", "2")]
    assert found.hashes["files.model.onnx"] == tuple(manifest["files"]["model.onnx"] for manifest in manifests)
    assert found.figures["test_accuracy"] == tuple(manifest["test_accuracy"] for manifest in manifests)
    assert not any(key.startswith("dataset.") for key in found.hashes)
    rows = [golden.row for number in ("1", "2") for golden in Goldens.load(repository / NAME / number).rows]
    one, other = (Version(repository / NAME / number).answers(rows) for number in ("1", "2"))
    moved = [np.abs(a[1] - b[1]).max() for a, b in zip(one, other, strict=True)]
    assert found.max_probability_change == pytest.approx(max(moved))
    differing = {(row[:60], a[0], b[0]) for row, a, b in zip(rows, one, other, strict=True) if a[0] != b[0]}
    assert set(found.labels) == differing
    assert found.rows == len(set(rows))


def test_a_key_of_the_configuration_that_differs_is_named(repository: Path, verified_run: RunDirectory) -> None:
    publish(verified_run, repository, settings=("publish.instances=3", "publish.max_queue_delay_microseconds=100"))
    assert diff(repository, NAME, 1, 4).config == {
        "instance_group[0].count": (2, 3),
        "dynamic_batching.max_queue_delay_microseconds": (None, "100"),
    }


def test_a_feature_model_is_compared_too(verified_feature_run: RunDirectory, tmp_path: Path) -> None:
    publish(verified_feature_run, tmp_path)
    publish(verified_feature_run, tmp_path)
    found = diff(tmp_path, "waves", 1, 2)
    assert (found.labels, found.max_probability_change) == ((), 0)
    assert found.rows > 1


def test_a_variant_is_compared_with_full_precision(variant_run: RunDirectory, tmp_path: Path) -> None:
    publish(variant_run, tmp_path)
    publish(variant_run, tmp_path, variant="int8")
    found = diff(tmp_path, NAME, 1, 2)
    assert found.figures["variant"] == ("fp32", "int8")
    assert 0 < found.max_probability_change < 0.1


def test_the_command_prints_a_table_or_json(invoke: Invoke, repository: Path) -> None:
    table = invoke("diff", NAME, 1, 2)
    assert table.exit_code == 0, table.output
    found = diff(repository, NAME, 1, 2)
    assert "contract: the same\nconfig: the same\nhashes:\n  files.model.onnx: " in table.stdout
    assert f"golden rows: {len(found.labels)} of {found.rows} labels differ" in table.stdout
    assert json.loads(invoke("diff", NAME, 1, 2, "--json").stdout)["rows"] == found.rows


def test_a_version_that_is_not_there_is_told(repository: Path) -> None:
    with pytest.raises(UsageError, match=r"no version 7\. It has: 1, 2, 3"):
        diff(repository, NAME, 1, 7)
