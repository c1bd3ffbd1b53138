"""The patch: what it may say, what it changes, and what a version remembers of it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline.commands import main
from pipeline.errors import CheckFailed, UsageError
from pipeline.files import sha256_of
from pipeline.publish import publish
from pipeline.repository import history
from pipeline.repository.config import loads
from pipeline.repository.patch import merged, read_patch
from pipeline.run_directory import RunDirectory
from pipeline.tune.space import Candidate

TUNED = Candidate("int8", 3, 2, 1500, (8, 16), arena=False)
SIZES = "dynamic_batching { preferred_batch_size: 65 }"


def written(folder: Path, content: str) -> Path:
    path = folder / "tuned.pbtxt"
    path.write_text(content)
    return path


def configuration(version: Path) -> object:
    return loads((version / "config.pbtxt").read_text())


def test_a_version_is_served_as_its_patch_says_and_otherwise_as_it_would_be(
    variant_run: RunDirectory, tmp_path: Path
) -> None:
    plain = configuration(publish(variant_run, tmp_path / "plain", variant="int8"))
    version = publish(variant_run, tmp_path / "tuned", config_patch=written(tmp_path, TUNED.patch()))
    tuned = configuration(version)
    assert tuned.instance_group[0].count == 3
    assert tuned.dynamic_batching.max_queue_delay_microseconds == 1500
    assert list(tuned.dynamic_batching.preferred_batch_size) == [8, 16]
    values = {key: tuned.parameters[key].string_value for key in tuned.parameters}
    assert {"intra_op_thread_count": "2", "enable_mem_arena": "0", "variant": "int8"}.items() <= values.items()
    assert sha256_of(version / "model.onnx") == sha256_of(variant_run / "model.int8.onnx")
    for message in (plain, tuned):
        for field in ("instance_group", "parameters"):
            message.ClearField(field)
        for field in ("preferred_batch_size", "max_queue_delay_microseconds"):
            message.dynamic_batching.ClearField(field)
    assert tuned == plain


def test_a_version_remembers_its_patch(variant_run: RunDirectory, tmp_path: Path) -> None:
    version = publish(variant_run, tmp_path / "repository", config_patch=written(tmp_path, TUNED.patch()))
    manifest = json.loads((version / "manifest.json").read_text())
    assert loads(manifest["config_patch"]) == loads(TUNED.patch())
    assert manifest["variant"] == "int8"
    assert [change.reason for change in history.read(version.parent)] == ["published with tuned.pbtxt"]
    plain = publish(variant_run, tmp_path / "repository")
    assert json.loads((plain / "manifest.json").read_text())["config_patch"] == ""


@pytest.mark.parametrize("delay", [0, 5000])
@pytest.mark.parametrize("preferred", [(), (64,)])
@pytest.mark.parametrize("arena", [True, False])
def test_every_candidate_is_a_patch_that_says_all_of_it(
    delay: int, preferred: tuple[int, ...], arena: bool, tmp_path: Path
) -> None:
    candidate = replace(TUNED, delay_microseconds=delay, preferred=preferred, arena=arena)
    other = "instance_group { count: 9 } dynamic_batching { preferred_batch_size: 4 max_queue_delay_microseconds: 7 }"
    base = loads(f'max_batch_size: 64 {other} parameters {{ key: "classes" value {{ string_value: "[]" }} }}')
    result = merged(base, read_patch(written(tmp_path, candidate.patch())))
    assert result.instance_group[0].count == 3
    assert result.dynamic_batching.max_queue_delay_microseconds == delay
    assert tuple(result.dynamic_batching.preferred_batch_size) == preferred
    assert result.parameters["enable_mem_arena"].string_value == str(int(arena))
    assert result.parameters["classes"].string_value == "[]"
    assert base.instance_group[0].count == 9


def test_what_a_patch_leaves_out_stays(tmp_path: Path) -> None:
    base = loads("max_batch_size: 64 instance_group { count: 2 } dynamic_batching { max_queue_delay_microseconds: 7 }")
    result = merged(base, read_patch(written(tmp_path, "instance_group { count: 3 }")))
    assert result.dynamic_batching == base.dynamic_batching
    assert merged(base, loads("")) == base


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("max_batch_size: 128", "max_batch_size is not for a patch to change; wanted instance_group.count"),
        ('name: "other"', "name is not for a patch to change"),
        ("instance_group { count: 2 kind: KIND_CPU }", "instance_group.kind is not for a patch"),
        (
            "dynamic_batching { default_queue_policy { max_queue_size: 1 } }",
            "default_queue_policy.max_queue_size is not",
        ),
        ("response_cache { enable: true }", "response_cache.enable is not .* which outputs are asked for"),
        ("response_cache { }", "response_cache is not .* which outputs are asked for"),
        ("instance_group { }", "instance_group is not for a patch"),
        ('parameters { key: "classes" value { string_value: "[]" } }', "parameters.classes is not for a patch"),
        ("instance_group { count: 1 } instance_group { count: 1 }", "instance_group: wanted one, got 2"),
        ("instance_group { count: 2000 }", "instance_group.count: wanted 1 to 1024, got 2000"),
        ("dynamic_batching { preferred_batch_size: 0 }", "preferred_batch_size: wanted at least 1"),
        ("dynamic_batching { max_queue_delay_microseconds: 60000001 }", "wanted at most 60000000, got 60000001"),
        ('parameters { key: "enable_mem_arena" value { string_value: "no" } }', "wanted 0 to 1, got 'no'"),
        ('parameters { key: "intra_op_thread_count" value { string_value: "-1" } }', "wanted 0 to 1024, got '-1'"),
        ("instance_group {", "not a patch to config.pbtxt"),
        ("instances: 2", "not a patch to config.pbtxt"),
    ],
)
def test_a_patch_that_says_more_than_it_may_is_refused(content: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"tuned.pbtxt: .*{message}") as refused:
        read_patch(written(tmp_path, content))
    assert "\n" not in str(refused.value)


def test_a_refused_patch_publishes_nothing(verified_run: RunDirectory, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    with pytest.raises(UsageError, match="preferred_batch_size: wanted at most max_batch_size, 64, got 65"):
        publish(verified_run, repository, config_patch=written(tmp_path, SIZES))
    assert not (repository / "opinions").exists()
    words = ["publish", verified_run.path, "--repository", repository, "--config-patch", tmp_path / "none.pbtxt"]
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "none.pbtxt: not a patch to config.pbtxt: " in result.stderr


@pytest.mark.parametrize(
    "setting", ["publish.instances=4", " publish.threads = 2", "publish.max_queue_delay_microseconds=9"]
)
def test_a_setting_that_the_patch_decides_is_refused(setting: str, variant_run: RunDirectory, tmp_path: Path) -> None:
    patch = written(tmp_path, TUNED.patch())
    with pytest.raises(UsageError, match=rf"--set {setting}: .*tuned.pbtxt decides that. Leave out one of the two."):
        publish(variant_run, tmp_path / "repository", settings=(setting,), config_patch=patch)
    count_only = written(tmp_path, "instance_group { count: 3 }")
    if "instances" not in setting:
        publish(variant_run, tmp_path / "repository", settings=(setting,), config_patch=count_only)


def test_a_patch_is_published_with_the_variant_that_it_was_found_with(
    variant_run: RunDirectory, verified_run: RunDirectory, tmp_path: Path
) -> None:
    patch = written(tmp_path, TUNED.patch())
    with pytest.raises(UsageError, match=r"was found with int8, not with --variant fp16"):
        publish(variant_run, tmp_path / "repository", variant="fp16", config_patch=patch)
    with pytest.raises(CheckFailed, match="no verified int8"):
        publish(verified_run, tmp_path / "repository", config_patch=patch)
    full = written(tmp_path, replace(TUNED, variant="fp32").patch())
    with pytest.raises(UsageError, match="was found with fp32, not with --variant int8"):
        publish(variant_run, tmp_path / "repository", variant="int8", config_patch=full)
    version = publish(variant_run, tmp_path / "repository", config_patch=full)
    assert sha256_of(version / "model.onnx") == sha256_of(variant_run / "model.onnx")
