"""promote, rollback, retire, and the aliases that publish gives: what is served afterwards, and what is refused."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import Result

from pipeline.errors import CheckFailed, PipelineError, RepositoryError, UsageError
from pipeline.files import sha256_of, write_json
from pipeline.publish import publish
from pipeline.release import promote, retire, rollback, status
from pipeline.repository import config, scan
from pipeline.repository.aliases import Aliases, candidate_model
from pipeline.repository.transaction import Repository
from pipeline.repository.version import Version
from pipeline.run_directory import RunDirectory
from tests.release.conftest import NAME

Damage = Callable[[Path], object]


def tree(path: Path) -> dict[str, str]:
    files = (file for file in sorted(path.rglob("*")) if file.is_file() and file.name != ".publish.lock")
    return {str(file.relative_to(path)): sha256_of(file) for file in files}


def served(repository: Path, model: str = NAME) -> tuple[int, str]:
    """The version that Triton is told to serve, and the hash of the bytes that it is told they have."""
    read = config.loads((repository / model / "config.pbtxt").read_text())
    (version,) = read.version_policy.specific.versions
    assert read.parameters["version"].string_value == str(version)
    return version, read.parameters["model_sha256"].string_value


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def of_opset(file: Path, number: int) -> None:
    model = onnx.load(file)
    model.opset_import[0].version = number
    onnx.save(model, file)


DAMAGES: dict[str, Damage] = {
    "truncated": lambda version: os.truncate(version / "model.onnx", 1000),
    "empty": lambda version: os.truncate(version / "model.onnx", 0),
    "bit-flipped": lambda version: flip(version / "model.onnx"),
    "wrong-opset": lambda version: of_opset(version / "model.onnx", 99),
    "without-model": lambda version: (version / "model.onnx").unlink(),
    "other-goldens": lambda version: flip(version / "parity.json"),
    "other-configuration": lambda version: (version / "config.pbtxt").write_text('name: "opinions"'),
    "without-manifest": lambda version: (version / "manifest.json").unlink(),
    "with-more": lambda version: (version / "model.py").write_text("import os"),
}


def vouch(version: Path) -> None:
    """Let the manifest say that the files are as they should be."""
    manifest = json.loads((version / "manifest.json").read_text())
    write_json(version / "manifest.json", {**manifest, "files": {f: sha256_of(version / f) for f in manifest["files"]}})


def test_the_versions_of_a_name_are_served_as_production_and_candidate(repository: Path, aliases: Aliases) -> None:
    assert aliases.named(NAME) == {"production": 2, "candidate": 3}
    assert served(repository) == (2, sha256_of(repository / NAME / "2" / "model.onnx"))
    assert served(repository, candidate_model(NAME)) == (3, sha256_of(repository / NAME / "3" / "model.onnx"))
    assert scan(repository)[candidate_model(NAME)].versions == (3,)
    read = config.loads((repository / candidate_model(NAME) / "config.pbtxt").read_text())
    assert read.name == candidate_model(NAME)


def test_a_candidate_takes_no_room(three_versions: Path) -> None:
    for file in (three_versions / NAME / "3").iterdir():
        assert file.samefile(three_versions / candidate_model(NAME) / "3" / file.name)


def test_a_file_system_without_hard_links_gets_copies(
    repository: Path, aliases: Aliases, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with aliases.store.locked():
        aliases.set_candidate(NAME, 1, "tried")
    copied = repository / candidate_model(NAME) / "1"
    assert tree(copied) == tree(repository / NAME / "1")
    assert not (copied / "model.onnx").samefile(repository / NAME / "1" / "model.onnx")


def test_the_candidate_is_promoted_and_is_candidate_no_longer(repository: Path, aliases: Aliases) -> None:
    assert promote(repository, NAME) == 3
    assert served(repository)[0] == 3
    assert aliases.named(NAME) == {"production": 3, "candidate": None}
    assert not (repository / candidate_model(NAME)).exists()
    with pytest.raises(RepositoryError, match=r"no candidate\. Name a version: `pipeline promote opinions VERSION`"):
        promote(repository, NAME)


def test_another_version_is_promoted_beside_the_candidate(repository: Path, aliases: Aliases) -> None:
    promote(repository, NAME, 1)
    assert aliases.named(NAME) == {"production": 1, "candidate": 3}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("change", [promote, lambda repository, name: rollback(repository, name, 1)])
def test_a_damaged_version_never_replaces_a_good_one(damage: str, change: Callable, repository: Path) -> None:
    for version in ("1", "3"):
        DAMAGES[damage](repository / NAME / version)
    before = tree(repository)
    with pytest.raises(PipelineError, match=f"{NAME}/[13]"):
        change(repository, NAME)
    assert tree(repository) == before


@pytest.mark.parametrize("damage", ["truncated", "empty", "wrong-opset"])
def test_a_model_that_does_not_load_is_refused_whatever_its_manifest_says(damage: str, repository: Path) -> None:
    DAMAGES[damage](repository / NAME / "3")
    vouch(repository / NAME / "3")
    before = tree(repository)
    with pytest.raises(PipelineError, match="3/model.onnx: ONNX Runtime cannot load it"):
        promote(repository, NAME)
    assert tree(repository) == before


def test_a_model_that_answers_otherwise_is_refused_whatever_its_manifest_says(repository: Path) -> None:
    shutil.copy(repository / NAME / "2" / "model.onnx", repository / NAME / "3" / "model.onnx")
    vouch(repository / NAME / "3")
    with pytest.raises(CheckFailed, match=r"opinions/3: does not answer as it was verified: golden row \d+: got"):
        promote(repository, NAME)
    assert served(repository)[0] == 2


def test_another_version_in_the_place_of_a_version_is_refused(repository: Path) -> None:
    shutil.rmtree(repository / NAME / "3")
    shutil.copytree(repository / NAME / "2", repository / NAME / "3")
    with pytest.raises(CheckFailed, match=r"3/manifest.json: of version 2"):
        promote(repository, NAME)


def test_rolling_back_goes_back_step_by_step_and_no_further(repository: Path) -> None:
    promote(repository, NAME)
    assert [rollback(repository, NAME), rollback(repository, NAME)] == [2, 1]
    with pytest.raises(RepositoryError, match="no earlier production to go back to"):
        rollback(repository, NAME)
    assert served(repository)[0] == 1


def test_what_was_rolled_back_from_is_not_gone_back_to(repository: Path) -> None:
    promote(repository, NAME)
    rollback(repository, NAME)
    promote(repository, NAME, 1)
    assert rollback(repository, NAME) == 2
    assert rollback(repository, NAME) == 1  # before 2, as at first


def test_a_retired_version_is_passed_over_on_the_way_back(repository: Path) -> None:
    promote(repository, NAME)
    retire(repository, NAME, 2)
    assert rollback(repository, NAME) == 1


def test_rolling_back_to_a_version_wants_one_that_was_production(repository: Path, verified_run: RunDirectory) -> None:
    publish(verified_run, repository, alias="none")
    with pytest.raises(RepositoryError, match=r"version 4 was never production\. `pipeline promote opinions 4`"):
        rollback(repository, NAME, 4)
    promote(repository, NAME)
    assert rollback(repository, NAME, 1) == 1
    with pytest.raises(RepositoryError, match="no earlier production"):
        rollback(repository, NAME)


def test_the_history_tells_what_happened_when_and_by_whom(repository: Path, aliases: Aliases) -> None:
    promote(repository, NAME, reason="fewer false alarms")
    rollback(repository, NAME)
    told = [(change.alias, change.before, change.after, change.reason) for change in aliases.history(NAME)]
    assert told == [
        ("production", None, 1, "published"),
        ("production", 1, 2, "published"),
        ("candidate", None, 3, "published"),
        ("production", 2, 3, "fewer false alarms"),
        ("candidate", 3, None, "fewer false alarms"),
        ("production", 3, 2, "rolled back"),
    ]
    assert all(change.by.count("@") == 1 and change.when.endswith("+00:00") for change in aliases.history(NAME))
    assert [change.is_rollback for change in aliases.history(NAME)] == [False] * 5 + [True]


def test_each_version_is_served_with_its_own_configuration(repository: Path, verified_run: RunDirectory) -> None:
    def instances() -> int:
        return config.loads((repository / NAME / "config.pbtxt").read_text()).instance_group[0].count

    publish(verified_run, repository, settings=("publish.instances=3",))
    assert instances() == 3
    rollback(repository, NAME)
    assert instances() == 2
    promote(repository, NAME, 4)
    assert instances() == 3


def test_production_and_the_candidate_are_not_retired(repository: Path) -> None:
    before = tree(repository)
    for version, alias in ((2, "production"), (3, "candidate")):
        with pytest.raises(RepositoryError, match=f"version {version} is {alias}; it cannot be retired"):
            retire(repository, NAME, version)
    assert tree(repository) == before


def test_a_retired_version_is_gone_and_its_number_is_never_given_again(
    repository: Path, verified_run: RunDirectory
) -> None:
    publish(verified_run, repository, alias="none")
    retire(repository, NAME, 4)
    assert Repository(repository).versions(NAME) == [1, 2, 3]
    assert publish(verified_run, repository).name == "5"
    with pytest.raises(RepositoryError, match=r"opinions/4: was retired\. No number is given twice"):
        publish(verified_run, repository, version=4)


def test_a_model_whose_versions_were_all_retired_begins_anew(
    verified_run: RunDirectory, verified_feature_run: RunDirectory, tmp_path: Path
) -> None:
    publish(verified_run, tmp_path, alias="none")
    retire(tmp_path, NAME, 1)
    assert publish(verified_feature_run, tmp_path, name=NAME).name == "2"
    assert [problem for model in status(tmp_path) for problem in model.problems] == []
    assert (tmp_path / NAME / "labels.txt").read_text() == "fast\nmiddling\nslow\n"


def test_a_first_version_that_is_not_production_is_not_served(verified_run: RunDirectory, tmp_path: Path) -> None:
    publish(verified_run, tmp_path, alias="none")
    assert scan(tmp_path) == {}
    publish(verified_run, tmp_path, alias="candidate")
    assert scan(tmp_path).keys() == {candidate_model(NAME)}
    assert Aliases(Repository(tmp_path)).named(NAME) == {"production": None, "candidate": 2}
    assert promote(tmp_path, NAME) == 2
    assert scan(tmp_path).keys() == {NAME}


def test_a_name_that_a_candidate_would_have_is_refused(verified_run: RunDirectory, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'opinions.candidate': a model's candidate has that name"):
        publish(verified_run, tmp_path, name=candidate_model(NAME))
    assert list(tmp_path.iterdir()) == []


def test_production_cannot_be_the_candidate_too(repository: Path, aliases: Aliases) -> None:
    with aliases.store.locked(), pytest.raises(RepositoryError, match="version 2 is production, and cannot be both"):
        aliases.set_candidate(NAME, 2, "twice")
    assert aliases.named(NAME) == {"production": 2, "candidate": 3}


def test_in_a_repository_from_before_aliases_the_newest_version_is_production(older: Path) -> None:
    aliases = Aliases(Repository(older))
    assert aliases.named(NAME) == {"production": 1, "candidate": None}
    assert aliases.history(NAME) == []
    (model,) = status(older)
    assert (model.production, model.problems) == (1, [])
    promote(older, NAME, 1)
    assert served(older)[0] == 1


def test_a_repository_from_before_aliases_takes_candidates_and_goes_back(older: Path, other_run: RunDirectory) -> None:
    publish(other_run, older, alias="candidate")
    assert served(older) == (1, sha256_of(older / NAME / "1" / "model.onnx"))
    assert served(older, candidate_model(NAME))[0] == 2
    promote(older, NAME)
    assert rollback(older, NAME) == 1
    assert [problem for model in status(older) for problem in model.problems] == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: promote(path, "opinion"), "opinion: no such model in .*It has: opinions"),
        (lambda path: promote(path, "../x"), "no such model"),
        (lambda path: promote(path, candidate_model(NAME)), "no such model"),
        (lambda path: promote(path, NAME, 9), r"opinions: no version 9\. It has: 1, 2, 3"),
        (lambda path: rollback(path, NAME, 9), "version 9 was never production"),
        (lambda path: retire(path, NAME, 9), "no version 9"),
        (lambda path: promote(path / "nowhere", NAME), "nowhere: not a model repository: No such file"),
    ],
)
def test_what_is_not_there_is_refused_and_nothing_changes(change: Damage, message: str, repository: Path) -> None:
    before = tree(repository)
    with pytest.raises(PipelineError, match=message):
        change(repository)
    assert tree(repository) == before
    assert not (repository / "nowhere").exists()


def test_the_commands_print_what_they_made_and_exit_as_documented(
    invoke: Callable[..., Result], repository: Path, aliases: Aliases, verified_run: RunDirectory
) -> None:
    folder = repository / NAME
    assert invoke("publish", verified_run.path, "--as", "none").stdout == f"{folder / '4'}\n"
    assert invoke("publish", verified_run.path, "--as", "candidate").stdout == f"{folder / '5'}\n"
    assert aliases.named(NAME) == {"production": 2, "candidate": 5}
    assert invoke("promote", NAME, "--reason", "it is better").stdout == f"{folder / '5'}\n"
    assert aliases.history(NAME)[-1].reason == "it is better"
    assert invoke("rollback", NAME).stdout == f"{folder / '2'}\n"
    assert (invoke("retire", NAME, 4).exit_code, invoke("retire", NAME, 4).exit_code) == (0, 2)
    assert invoke("retire", NAME, 2).exit_code == 1
    DAMAGES["empty"](folder / "5")
    damaged = invoke("promote", NAME, 5)
    assert (damaged.exit_code, damaged.stdout) == (3, "")
    assert "5/model.onnx: SHA-256" in damaged.stderr


def test_a_command_waits_no_longer_than_it_is_told(invoke: Callable[..., Result], aliases: Aliases) -> None:
    with aliases.store.locked():
        refused = invoke("promote", NAME, "--wait-seconds", 0)
    assert refused.exit_code == 1
    assert "another command is changing it. Wait longer with --wait-seconds" in refused.stderr
    assert invoke("promote", NAME, "--wait-seconds", 0).exit_code == 0


def test_versions_answer_their_own_goldens_and_not_the_others(repository: Path) -> None:
    first, second = (Version(repository / NAME / number) for number in ("1", "2"))
    text = "the film is lovely"
    assert np.abs(first.answers([text])[0][1] - second.answers([text])[0][1]).max() > 1e-3
