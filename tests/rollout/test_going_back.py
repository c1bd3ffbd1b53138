"""A bad version never replaces a good one: production answers as before all the while, and the rollout ends with 3."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from threading import Event as Flag

import onnx
import pytest
from onnx import numpy_helper

from pipeline.errors import CheckFailed
from pipeline.files import sha256_of
from pipeline.publish import publish
from pipeline.rollout import Record, RollingBack, rollout
from pipeline.run_directory import RunDirectory
from tests.rollout.conftest import NAME, Steady, aliases_of, roll_out, up_to
from tests.rollout.explicit import TOKEN

TOP_OF_EXPONENT = 0x40


def truncated(content: bytes) -> bytes:
    return content[: len(content) // 2]


def emptied(content: bytes) -> bytes:
    return b""


def bit_flipped(content: bytes) -> bytes:
    """One bit of one weight of the last layer: the file still loads, and answers otherwise."""
    graph = onnx.load_from_string(content).graph
    (bias,) = (tensor for tensor in graph.initializer if tensor.name.endswith("head.bias"))
    raw = numpy_helper.to_array(bias).astype("<f4").tobytes()
    assert content.count(raw) == 1
    place = content.index(raw) + 3
    return content[:place] + bytes([content[place] ^ TOP_OF_EXPONENT]) + content[place + 1 :]


def of_another_opset(content: bytes) -> bytes:
    model = onnx.load_from_string(content)
    for opset in model.opset_import:
        opset.version = 99
    return model.SerializeToString()


DAMAGES = [truncated, emptied, bit_flipped, of_another_opset]
Damage = Callable[[bytes], bytes]


def damage(path: Path, how: Damage) -> None:
    """Damage a file in place, which is also the candidate's: both are one file on disk."""
    path.write_bytes(how(path.read_bytes()))


def forge(version: Path) -> None:
    """Let a version's manifest say that its files are as they were published."""
    manifest = json.loads((version / "manifest.json").read_text())
    manifest["files"] = {file: sha256_of(version / file) for file in manifest["files"]}
    (version / "manifest.json").write_text(json.dumps(manifest))


def refused(steady: Steady, what: object, *options: object) -> str:
    """Roll something out that must end with exit code 3, and with everything as before; return what it said."""
    words = (what, "--url", steady.live.url, "--repository", steady.repository, *options)
    with steady.untouched():
        done = roll_out(*words, token=TOKEN)
    assert done.exit_code == 3, done.output
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


@pytest.mark.parametrize("how", DAMAGES)
def test_a_run_damaged_before_it_is_published_is_no_candidate(
    how: Damage, steady: Steady, contrary_run: RunDirectory, copy_of
) -> None:
    run = copy_of(contrary_run)
    damage(run / "model.onnx", how)
    assert "model.onnx: changed since it was verified" in refused(steady, run.path)


@pytest.mark.parametrize("how", DAMAGES)
def test_a_version_damaged_after_it_was_published_goes_nowhere(
    how: Damage, steady: Steady, contrary_run: RunDirectory
) -> None:
    version = publish(contrary_run, steady.repository, alias="candidate")
    damage(version / "model.onnx", how)
    said = refused(steady, NAME)
    assert said.startswith(
        f"pipeline: opinions: version {version.name} was not rolled out: {version / 'model.onnx'}: SHA-"
    )
    assert said.endswith("Version 1 is production, and answers, as before.")


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_version_whose_manifest_was_forged_is_found_out_by_the_server(
    how: Damage, steady: Steady, contrary_run: RunDirectory
) -> None:
    version = publish(contrary_run, steady.repository, alias="candidate")
    damage(version / "model.onnx", how)
    forge(version)
    said = refused(steady, NAME)
    found = "does not answer as it was verified" if how is bit_flipped else "opinions.candidate could not be loaded"
    assert found in said


def test_a_candidate_that_answers_otherwise_on_the_live_server_is_found_out(
    steady: Steady, verified_run: RunDirectory, contrary_run: RunDirectory
) -> None:
    version = publish(contrary_run, steady.repository, alias="candidate")
    shutil.copyfile(verified_run / "model.onnx", version / "model.onnx")
    forge(version)
    assert "opinions.candidate does not answer as it was verified: golden row 0: got 'blame'" in refused(steady, NAME)


@pytest.mark.parametrize("how", DAMAGES)
def test_a_version_damaged_after_the_candidate_has_passed_is_still_found_out(
    how: Damage, steady: Steady, contrary_run: RunDirectory
) -> None:
    version = publish(contrary_run, steady.repository, alias="candidate")
    rolling = rollout(NAME, steady.repository, steady.live, Flag())
    with steady.untouched():
        up_to("candidate answers", rolling)
        damage(version / "model.onnx", how)
        with pytest.raises(CheckFailed, match=r"model.onnx: SHA-256 .* Version 1 is production"):
            list(rolling)


@pytest.mark.parametrize("how", [truncated, emptied, of_another_opset])
def test_a_version_damaged_in_the_last_moment_is_refused_by_the_server_and_production_goes_back(
    how: Damage, steady: Steady, contrary_run: RunDirectory
) -> None:
    version = publish(contrary_run, steady.repository, alias="candidate")
    rolling = rollout(NAME, steady.repository, steady.live, Flag())
    with steady.untouched():
        up_to("candidate is production", rolling)
        assert aliases_of(steady.repository) == (int(version.name), None)
        damage(version / "model.onnx", how)
        back, record = next(rolling), next(rolling)
        with pytest.raises(CheckFailed, match="opinions could not be loaded: .*, as before"):
            next(rolling)
    assert isinstance(back, RollingBack)
    assert isinstance(record, Record)
    assert record.outcome == "rolled back"
    assert json.loads((steady.repository / NAME / "rollout.json").read_text())["reason"] == back.reason


def test_a_candidate_that_disagrees_too_much_in_shadow_goes_back_by_itself(
    steady: Steady, contrary_run: RunDirectory, text_file: Path
) -> None:
    said = refused(steady, contrary_run.path, "--shadow", text_file, "--max-differing", 0.1)
    assert re.search(r"candidate: \d+ of \d+ label\(s\) differ, 10.0% may", said)


@pytest.mark.parametrize("share", [(), ("--canary-share", 0.5)], ids=["shadow", "canary"])
def test_a_candidate_that_is_too_slow_beside_production_goes_back_by_itself(
    share: tuple[object, ...], steady: Steady, verified_run: RunDirectory, text_file: Path
) -> None:
    trial = ("--shadow", text_file, "--shadow-rows", 40, "--max-slowdown", 0.01)
    said = refused(steady, verified_run.path, *trial, *share)
    assert re.search(
        r"candidate: takes [\d.]+ ms, the median of \d+, where production takes [\d.]+ ms; 0.01 times", said
    )
