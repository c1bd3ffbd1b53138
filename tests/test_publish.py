import json
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tritonclient.grpc import model_config_pb2 as pb

from pipeline.errors import CheckFailed, RepositoryError, RunError, UsageError
from pipeline.files import sha256_of
from pipeline.publish import publish
from pipeline.repository.aliases import Aliases
from pipeline.repository.config import loads
from pipeline.repository.transaction import Repository
from pipeline.run_directory import RunDirectory
from pipeline.runtime import open_session


def tree(path: Path) -> dict[str, str]:
    return {str(file.relative_to(path)): sha256_of(file) for file in sorted(path.rglob("*")) if file.is_file()}


def test_the_repository_has_what_triton_and_people_need(published_repository: Path) -> None:
    model = published_repository / "opinions"
    assert {path.name for path in model.iterdir()} == {"1", "config.pbtxt", "history.jsonl", "labels.txt"}
    assert {path.name for path in (model / "1").iterdir()} == {
        "model.onnx",
        "signature.json",
        "parity.json",
        "config.pbtxt",
        "manifest.json",
    }
    assert (model / "labels.txt").read_text() == "blame\npraise\n"


def test_the_configuration_is_complete_and_says_what_the_recipe_said(published_repository: Path) -> None:
    config = loads((published_repository / "opinions" / "config.pbtxt").read_text())
    assert (config.name, config.backend, config.max_batch_size) == ("opinions", "onnxruntime", 64)
    assert [(item.name, item.data_type, list(item.dims)) for item in config.input] == [
        ("text", pb.DataType.TYPE_STRING, [1])
    ]
    assert [(item.name, item.data_type, list(item.dims)) for item in config.output] == [
        ("probabilities", pb.DataType.TYPE_FP32, [2]),
        ("label", pb.DataType.TYPE_STRING, [1]),
        ("valid", pb.DataType.TYPE_BOOL, [1]),
    ]
    assert config.output[0].label_filename == "labels.txt"
    assert config.version_policy.specific.versions == [1]
    assert config.parameters["version"].string_value == "1"
    model = published_repository / "opinions" / "1" / "model.onnx"
    assert config.parameters["model_sha256"].string_value == sha256_of(model)
    assert config.instance_group[0].count == 2
    assert config.HasField("dynamic_batching")
    assert config.dynamic_batching.default_queue_policy.max_queue_size == 1024
    assert json.loads(config.parameters["classes"].string_value) == ["blame", "praise"]
    assert config.parameters["intra_op_thread_count"].string_value == "1"


def test_a_feature_model_has_dynamic_frames(published_repository: Path) -> None:
    config = loads((published_repository / "waves" / "config.pbtxt").read_text())
    assert {item.name: list(item.dims) for item in config.input} == {"features": [-1, 2], "lengths": [1]}


def test_the_manifest_names_every_file_by_its_hash(published_repository: Path) -> None:
    version = published_repository / "opinions" / "1"
    manifest = json.loads((version / "manifest.json").read_text())
    assert manifest["files"] == {
        name: sha256_of(version / name) for name in ("model.onnx", "signature.json", "parity.json", "config.pbtxt")
    }
    assert (manifest["name"], manifest["version"]) == ("opinions", 1)
    assert 0 < manifest["test_accuracy"] <= 1
    assert 0 <= manifest["test_calibration_error"] < 1


def test_publishing_again_makes_the_next_version_and_leaves_the_first_alone(
    verified_run: RunDirectory, tmp_path: Path
) -> None:
    first = publish(verified_run, tmp_path / "repository")
    before = tree(first)
    second = publish(verified_run, tmp_path / "repository")
    assert (first.name, second.name) == ("1", "2")
    assert tree(first) == before


def test_an_existing_version_is_never_overwritten(verified_run: RunDirectory, tmp_path: Path) -> None:
    publish(verified_run, tmp_path, version=7)
    before = tree(tmp_path)
    with pytest.raises(RepositoryError, match=r"opinions/7: exists. Versions are never overwritten"):
        publish(verified_run, tmp_path, version=7)
    assert tree(tmp_path) == before


def test_an_unverified_run_is_refused(exported_run: RunDirectory, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="parity.json: missing. Make it with `pipeline verify` first"):
        publish(exported_run, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_failed_verification_is_refused(verified_run: RunDirectory, copy_of, tmp_path: Path) -> None:
    run = copy_of(verified_run)
    text = (run / "parity.json").read_text()
    (run / "parity.json").write_text(text.replace('"passed": true', '"passed": false', 1))
    with pytest.raises(CheckFailed, match="verification failed; nothing unverified is served"):
        publish(run, tmp_path / "repository")
    assert not (tmp_path / "repository").exists()


@pytest.mark.parametrize("name", ["model.onnx", "signature.json", "recipe.toml", "weights.safetensors"])
def test_a_run_changed_after_verification_is_refused(name: str, verified_run: RunDirectory, copy_of, tmp_path) -> None:
    run = copy_of(verified_run)
    with (run / name).open("ab") as file:
        file.write(b"\n")
    with pytest.raises(CheckFailed, match=f"{name}: changed since it was verified"):
        publish(run, tmp_path / "repository")
    assert not (tmp_path / "repository").exists()


def test_a_copy_that_answers_otherwise_is_refused(verified_run: RunDirectory, copy_of, tmp_path: Path) -> None:
    run = copy_of(verified_run)
    report = json.loads((run / "parity.json").read_text())
    report["goldens"][0]["probabilities"] = [0.5, 0.5]
    (run / "parity.json").write_text(json.dumps(report))
    with pytest.raises(CheckFailed, match="opinions/1: does not answer as it was verified: golden row 0"):
        publish(run, tmp_path / "repository")
    assert not (tmp_path / "repository" / "opinions").exists()


def test_a_model_of_another_contract_needs_another_name(
    verified_run: RunDirectory, verified_feature_run: RunDirectory, tmp_path: Path
) -> None:
    publish(verified_run, tmp_path)
    before = tree(tmp_path)
    with pytest.raises(RepositoryError, match=r"version 1 has another contract \(interface, .* differ\)"):
        publish(verified_feature_run, tmp_path, name="opinions")
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", ["../x", "", ".hidden", "a/b", "a b"])
def test_a_name_that_is_no_folder_name_is_refused(name: str, verified_run: RunDirectory, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a model name"):
        publish(verified_run, tmp_path, name=name)


def test_serving_keys_can_change_without_training_anew(verified_run: RunDirectory, tmp_path: Path) -> None:
    publish(verified_run, tmp_path, settings=("publish.instances=3", "publish.threads=4"))
    config = loads((tmp_path / "opinions" / "config.pbtxt").read_text())
    assert (config.instance_group[0].count, config.parameters["intra_op_thread_count"].string_value) == (3, "4")
    publish(verified_run, tmp_path)
    assert loads((tmp_path / "opinions" / "config.pbtxt").read_text()).instance_group[0].count == 2


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("train.epochs=3", "the run is trained; only publish"),
        ("publish.max_batch_size=128", "128 is more than the verified 64"),
        ("publish.instance=2", "did you mean instances"),
    ],
)
def test_a_setting_that_comes_too_late_is_refused(setting: str, message: str, verified_run, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        publish(verified_run, tmp_path, settings=(setting,))


def test_two_publishers_do_not_meet(verified_run: RunDirectory, tmp_path: Path) -> None:
    with Repository(tmp_path).locked(), pytest.raises(RepositoryError, match="another command is changing it. Wait"):
        publish(verified_run, tmp_path, wait_seconds=0.1)
    assert Repository(tmp_path).versions("opinions") == []


def test_a_second_publisher_waits_for_the_first(verified_run: RunDirectory, tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as threads:
        published = [threads.submit(publish, verified_run, tmp_path, wait_seconds=120) for _ in range(2)]
    assert {path.result().name for path in published} == {"1", "2"}
    assert Aliases(Repository(tmp_path)).production("opinions") == 2


def test_a_full_disk_leaves_the_repository_untouched(verified_run: RunDirectory, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)], check=False)
    if mounted.returncode:
        pytest.skip("this sandbox does not mount")
    try:
        publish(verified_run, disk / "repository")
        before = tree(disk / "repository")
        subprocess.run(["dd", "if=/dev/zero", f"of={disk / 'full'}"], stderr=subprocess.DEVNULL, check=False)
        with pytest.raises(RepositoryError, match=r"No space left on device. What is served has not changed"):
            publish(verified_run, disk / "repository")
        assert tree(disk / "repository") == before
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize(
    "content", ['{"passed": true}', '{"passed": true, "hashes": [], "goldens": []}', "[]", '{"passed": 1}', "{"]
)
def test_a_parity_report_that_was_edited_is_refused_in_one_line(
    content: str, verified_run: RunDirectory, copy_of, tmp_path: Path
) -> None:
    run = copy_of(verified_run)
    (run / "parity.json").write_text(content)
    with pytest.raises(RunError, match=r"parity.json: (cut off or edited|not readable as JSON)"):
        publish(run, tmp_path / "repository")


def test_files_replaced_by_a_later_version_can_be_read_by_another_user(
    verified_run: RunDirectory, tmp_path: Path
) -> None:
    before = os.umask(0o077)
    try:
        publish(verified_run, tmp_path)
        publish(verified_run, tmp_path, settings=("publish.instances=3",))
    finally:
        os.umask(before)
    assert (tmp_path / "opinions" / "config.pbtxt").stat().st_mode & 0o777 == 0o644


def test_a_version_that_cannot_be_put_in_place_changes_nothing(
    verified_run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(verified_run, tmp_path)
    before = tree(tmp_path)

    def refuse(self: Repository, staged: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Repository, "put", refuse)
    with pytest.raises(RepositoryError, match="No space left on device. What is served has not changed"):
        publish(verified_run, tmp_path, settings=("publish.instances=3",))
    assert tree(tmp_path) == before


def test_published_files_can_be_read_by_another_user(published_repository: Path) -> None:
    for path in (published_repository / "opinions").rglob("*"):
        assert path.stat().st_mode & 0o044 == 0o044, path


def test_the_published_model_answers_in_plain_onnxruntime(published_repository: Path) -> None:
    session = open_session(published_repository / "opinions" / "1" / "model.onnx")
    texts = np.array([["the film is lovely"], ["the film is awful"]], dtype=object)
    probabilities, label, valid = session.run(None, {"text": texts})
    assert label[:, 0].tolist() == ["praise", "blame"]
    assert probabilities.sum(1) == pytest.approx(1, abs=1e-6)
    assert valid.all()


def test_a_lost_version_file_is_not_silently_republished(
    published_repository: Path, verified_run, tmp_path: Path
) -> None:
    repository = tmp_path / "repository"
    shutil.copytree(published_repository, repository)
    (repository / "opinions" / "1" / "signature.json").unlink()
    with pytest.raises(RunError, match=r"opinions/1/signature.json: no such file"):
        publish(verified_run, repository)
