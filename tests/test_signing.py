"""Signed runs and versions: what is refused, what an outsider can check, and what a bad key is told."""

import base64
import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import model_signing
import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from pipeline.commands import main
from pipeline.errors import CheckFailed, PipelineError, UsageError
from pipeline.files import sha256_of
from pipeline.publish import publish
from pipeline.publish import stage as publish_stage
from pipeline.run_directory import RunDirectory
from pipeline.signing import PASSWORD, Signer, Verifier, run_files

PEM = serialization.Encoding.PEM
Copy = Callable[[RunDirectory], RunDirectory]


def write_pair(
    folder: Path, name: str, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, password: str = ""
) -> None:
    hidden = serialization.BestAvailableEncryption(password.encode()) if password else serialization.NoEncryption()
    private = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, hidden)
    public = key.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (folder / f"{name}.pem").write_bytes(private)
    (folder / f"{name}.public.pem").write_bytes(public)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs of keys, KIND.pem and KIND.public.pem, some of which cannot sign."""
    folder = tmp_path_factory.mktemp("keys")
    write_pair(folder, "ours", ec.generate_private_key(ec.SECP256R1()))
    write_pair(folder, "theirs", ec.generate_private_key(ec.SECP256R1()))
    write_pair(folder, "encrypted", ec.generate_private_key(ec.SECP384R1()), "correct horse")
    write_pair(folder, "rsa", rsa.generate_private_key(65537, 2048))
    write_pair(folder, "bitcoin", ec.generate_private_key(ec.SECP256K1()))
    (folder / "words.pem").write_text("these are words")
    return folder


@pytest.fixture(scope="module")
def signed_run(verified_run: RunDirectory, keys: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run that `pipeline verify` signed with our key."""
    path = tmp_path_factory.mktemp("signed") / verified_run.path.name
    shutil.copytree(verified_run.path, path)
    result = invoke("verify", path, "--sign-key", keys / "ours.pem")
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith(f"signed: {path / 'model.sig'}\n")
    return RunDirectory.open(path)


@pytest.fixture
def gate(keys: Path, tmp_path: Path) -> Callable[[RunDirectory], Path]:
    """Publish a run that must bear our signature."""
    return lambda run: publish(run, tmp_path / "repository", require_signature=keys / "ours.public.pem")


def invoke(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def outsider(version: Path, public_key: Path) -> subprocess.CompletedProcess[str]:
    """Check a version with model_signing's own command line."""
    words = ["verify", "key", version, "--signature", version / "model.sig", "--public_key", public_key]
    return subprocess.run([sys.executable, "-m", "model_signing", *words], capture_output=True, text=True, check=False)


def change_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def report_on(run: RunDirectory, model: bytes) -> None:
    """Put another model into a run and write the parity report that it would need: the threat itself."""
    (run / "model.onnx").write_bytes(model)
    report = json.loads((run / "parity.json").read_text())
    report["hashes"]["model.onnx"] = sha256_of(run / "model.onnx")
    (run / "parity.json").write_text(json.dumps(report))


def test_a_published_version_can_be_checked_by_anybody(signed_run: RunDirectory, keys: Path, tmp_path: Path) -> None:
    options = ("--repository", tmp_path, "--require-signature", keys / "ours.public.pem", "--sign-key")
    result = invoke("publish", signed_run.path, *options, keys / "theirs.pem")
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path / 'opinions' / '1'}\n")
    version = tmp_path / "opinions" / "1"
    checked = outsider(version, keys / "theirs.public.pem")
    assert (checked.returncode, checked.stdout) == (0, "Verification succeeded\n")
    assert "Key mismatch" in outsider(version, keys / "ours.public.pem").stderr
    (version / "libtriton_onnxruntime.so").touch()
    change_a_byte(version / "manifest.json")
    refused = outsider(version, keys / "theirs.public.pem")
    assert refused.returncode == 1
    assert "Extra files found in model '1': libtriton_onnxruntime.so" in refused.stderr
    assert re.search(r"Hash mismatch for \\?'manifest.json", refused.stderr)


def test_a_version_is_signed_only_where_it_is_asked_for(signed_run: RunDirectory, gate) -> None:
    assert not (gate(signed_run) / "model.sig").exists()


def test_a_swapped_model_with_a_report_to_match_needs_a_signature_to_be_caught(
    signed_run: RunDirectory, copy_of: Copy, gate, tmp_path: Path
) -> None:
    run = copy_of(signed_run)
    report_on(run, (run / "model.onnx").read_bytes() + b"\xa2\x06\x00")  # an empty field more, for the same answers
    assert publish(run, tmp_path / "unguarded").is_dir()
    with pytest.raises(CheckFailed, match=r"not what was signed: model\.onnx, parity\.json\. Only `pipeline verify"):
        gate(run)
    assert not (tmp_path / "repository").exists()


def test_one_byte_of_any_signed_file_is_enough(signed_run: RunDirectory, copy_of: Copy, gate) -> None:
    run = copy_of(signed_run)
    names = run_files(run)
    assert {"model.onnx", "signature.json", "parity.json", "run.json", "evaluation.json"} < set(names)
    assert set(run.info["hashes"]) < set(names)
    for name in names:
        before = (run / name).read_bytes()
        change_a_byte(run / name)
        with pytest.raises(PipelineError, match=f"not what was signed: {name}") as refused:
            gate(run)
        assert refused.value.exit_code == 3
        (run / name).write_bytes(before)
    assert gate(run).is_dir()


@pytest.mark.parametrize("name", ["model.int8.onnx", "evaluation.json", "model.onnx", "parity.json"])
def test_a_file_added_or_taken_away_is_refused(name: str, signed_run: RunDirectory, copy_of: Copy, gate) -> None:
    run = copy_of(signed_run)
    if (run / name).is_file():
        (run / name).unlink()
    else:
        shutil.copyfile(run / "model.onnx", run / name)
    with pytest.raises(CheckFailed, match=f"not what was signed: {name}. Only"):
        gate(run)


def test_a_link_is_not_followed(signed_run: RunDirectory, copy_of: Copy, gate, keys: Path) -> None:
    run = copy_of(signed_run)
    (run / "model.onnx").rename(run.path.parent / "elsewhere.onnx")
    (run / "model.onnx").symlink_to(run.path.parent / "elsewhere.onnx")
    with pytest.raises(CheckFailed, match=r"not what was signed: .*model\.onnx"):
        gate(run)
    with pytest.raises(PipelineError, match=r"cannot be signed: .*model\.onnx' because it is a symlink"):
        Signer(keys / "ours.pem").sign(run.path, run_files(run))


def test_an_unsigned_run_is_refused(verified_run: RunDirectory, gate) -> None:
    with pytest.raises(
        CheckFailed, match=r"model\.sig: missing: nobody signed this run\. Only `pipeline verify .* --sig"
    ):
        gate(verified_run)


def test_the_signature_of_another_run_is_refused(
    signed_run: RunDirectory, verified_feature_run: RunDirectory, copy_of: Copy, gate, keys: Path
) -> None:
    run, other = copy_of(signed_run), copy_of(verified_feature_run)
    signature = Signer(keys / "ours.pem").sign(other.path, run_files(other))
    assert gate(other).is_dir()
    shutil.copyfile(signature, run / "model.sig")
    with pytest.raises(CheckFailed, match=r"not what was signed: evaluation\.json, model\.onnx, parity\.json, "):
        gate(run)


def test_the_signature_by_another_key_is_refused(signed_run: RunDirectory, copy_of: Copy, gate, keys: Path) -> None:
    run = copy_of(signed_run)
    Signer(keys / "theirs.pem").sign(run.path, run_files(run))
    with pytest.raises(CheckFailed, match=r"model\.sig: not a signature by the key of .*ours\.public\.pem"):
        gate(run)
    shutil.copyfile(signed_run / "model.sig", run / "model.sig")
    assert gate(run).is_dir()


def test_a_signature_that_was_edited_is_refused(signed_run: RunDirectory, copy_of: Copy, gate) -> None:
    run = copy_of(signed_run)
    bundle = json.loads((run / "model.sig").read_text())
    statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    report_on(run, b"another model")
    for resource in statement["predicate"]["resources"]:
        resource["digest"] = sha256_of(run / resource["name"])
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()
    whole = (run / "model.sig").read_bytes()
    for content in (json.dumps(bundle).encode(), whole[: len(whole) // 2], b"", b"{}", b"[]", b"\xff", b"null"):
        (run / "model.sig").write_bytes(content)
        with pytest.raises(CheckFailed, match=r"model\.sig: not a signature by the key of"):
            gate(run)


def test_a_signature_cannot_ask_for_a_file_to_be_ignored(
    signed_run: RunDirectory, copy_of: Copy, gate, keys: Path, tmp_path: Path
) -> None:
    run = copy_of(signed_run)
    others = [path.name for path in run.path.iterdir() if path.name not in run_files(run)]
    hashing = model_signing.hashing.Config().set_ignored_paths(paths=["model.onnx", *others])
    signer = model_signing.signing.Config().use_elliptic_key_signer(private_key=keys / "ours.pem")
    signer.set_hashing_config(hashing).sign(run.path, run / "model.sig")
    change_a_byte(run / "model.onnx")
    with pytest.raises(CheckFailed, match=r"not what was signed: model\.onnx\. Only"):
        gate(run)


def test_nothing_but_the_version_is_printed_for_a_signature_without_a_hint(
    signed_run: RunDirectory, copy_of: Copy, keys: Path, tmp_path: Path
) -> None:
    run = copy_of(signed_run)
    bundle = json.loads((run / "model.sig").read_text())
    bundle["verificationMaterial"]["publicKey"]["hint"] = ""
    (run / "model.sig").write_text(json.dumps(bundle))
    result = invoke("publish", run.path, "--repository", tmp_path, "--require-signature", keys / "ours.public.pem")
    assert result.stdout == f"{tmp_path / 'opinions' / '1'}\n"
    assert "older" in result.stderr


def test_files_swapped_between_the_check_and_the_copy_are_not_published(
    signed_run: RunDirectory, copy_of: Copy, gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copy_of(signed_run)
    model = (run / "model.onnx").read_bytes() + b"\xa2\x06\x00"

    class Racing:
        @staticmethod
        def copyfile(source: Path, target: Path) -> None:
            report_on(run, model)
            shutil.copyfile(source, target)

    monkeypatch.setattr(publish_stage, "shutil", Racing)
    with pytest.raises(CheckFailed, match=r"model\.onnx: changed while it was being published"):
        gate(run)
    assert not (tmp_path / "repository" / "opinions").exists()


def test_a_run_that_fails_is_not_signed(verified_run: RunDirectory, copy_of: Copy, keys: Path) -> None:
    run = copy_of(verified_run)
    change_a_byte(run / "model.onnx")
    result = invoke("verify", run.path, "--sign-key", keys / "ours.pem")
    assert result.exit_code == 3
    assert "signed" not in result.stdout
    assert not (run / "model.sig").exists()


@pytest.mark.parametrize("event", ["open", "os.rename"])
def test_a_signer_killed_as_it_writes_leaves_the_earlier_signature(
    event: str, signed_run: RunDirectory, copy_of: Copy, keys: Path
) -> None:
    run = copy_of(signed_run)
    before = (run / "model.sig").read_bytes()
    script = (
        "import os, signal, sys; from pathlib import Path; from pipeline.signing import *\n"
        "def trace(event, arguments):\n"
        "    if event == sys.argv[3] and '.model.sig.' in str(arguments[0]): os.kill(os.getpid(), signal.SIGKILL)\n"
        "sys.addaudithook(trace); run = RunDirectory.open(Path(sys.argv[1]))\n"
        "Signer(Path(sys.argv[2])).sign(run.path, run_files(run))"
    )
    command = [sys.executable, "-c", script, run.path, keys / "theirs.pem", event]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert (run / "model.sig").read_bytes() == before
    assert Verifier(keys / "ours.public.pem").require(run)["model.onnx"] == sha256_of(run / "model.onnx")


def test_an_encrypted_key_is_opened_by_the_password_in_the_environment(
    verified_run: RunDirectory, copy_of: Copy, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copy_of(verified_run)
    monkeypatch.setenv(PASSWORD, "correct horse")
    Signer(keys / "encrypted.pem").sign(run.path, run_files(run))
    assert set(Verifier(keys / "encrypted.public.pem").require(run)) == set(run_files(run))


@pytest.mark.parametrize(
    ("name", "password", "message"),
    [
        ("nowhere.pem", "", "nowhere.pem: cannot be read: No such file or directory. Make one with `openssl ecparam"),
        (".", "", "cannot be read: Is a directory"),
        ("words.pem", "", "words.pem: not a private key in PEM form on the curve P-256, P-384 or P-521. Make one with"),
        ("ours.public.pem", "", "ours.public.pem: not a private key in PEM form"),
        ("rsa.pem", "", "rsa.pem: not a private key in PEM form on the curve P-256"),
        ("bitcoin.pem", "", "bitcoin.pem: not a private key in PEM form on the curve P-256"),
        ("encrypted.pem", "", f"encrypted.pem: Password was not given .* The password is read from \\${PASSWORD}."),
        ("encrypted.pem", "wrong", f"encrypted.pem: Incorrect password, .* The password is read from \\${PASSWORD}."),
        ("ours.pem", "needless", f"ours.pem: Password was given but .* The password is read from \\${PASSWORD}."),
    ],
)
@pytest.mark.parametrize("command", ["verify", "publish"])
def test_a_private_key_that_cannot_sign_is_told_before_anything_is_done(
    command: str, name: str, password: str, message: str, exported_run, keys: Path, monkeypatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(PASSWORD, password)
    monkeypatch.chdir(tmp_path)
    result = invoke(command, exported_run.path, "--sign-key", keys / name)
    assert (result.exit_code, result.stdout) == (2, "")
    with pytest.raises(UsageError, match=message):
        Signer(keys / name)
    assert len(result.stderr.splitlines()) == 1
    assert not (exported_run / "parity.json").exists()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["ours.pem", "words.pem", "rsa.public.pem", "nowhere.pem"])
def test_a_public_key_that_is_none_is_told_in_one_line(name: str, signed_run, keys: Path, tmp_path: Path) -> None:
    options = ("--repository", tmp_path / "repository", "--require-signature", keys / name)
    result = invoke("publish", signed_run.path, *options)
    assert (result.exit_code, result.stdout, len(result.stderr.splitlines())) == (2, "", 1)
    wanted = "cannot be read" if name == "nowhere.pem" else "not a public key in PEM form on the curve P-256"
    assert f"{keys / name}: {wanted}" in result.stderr
    assert "`openssl ec -in private.pem -pubout -out public.pem`" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_missing_extra_is_named(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "model_signing", None)
    for user, key in ((Signer, "ours.pem"), (Verifier, "ours.public.pem")):
        with pytest.raises(UsageError, match=r"need model_signing, .* not installed: `pip install 'pipeline\[sign\]'`"):
            user(keys / key)
