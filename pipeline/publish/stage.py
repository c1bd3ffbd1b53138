"""Put a verified run into the model repository, or refuse."""

import dataclasses
import datetime
import shutil
from pathlib import Path

from pipeline import recipe
from pipeline.errors import CheckFailed, RepositoryError, UsageError
from pipeline.files import read_json, read_record, sha256_of, write_bytes, write_json, write_text
from pipeline.gate import PRECISIONS, feed
from pipeline.recipe import PublishKeys
from pipeline.repository import config
from pipeline.repository.goldens import FULL_PRECISION, Goldens
from pipeline.repository.transaction import Repository
from pipeline.run_directory import RunDirectory, require_model_name
from pipeline.runtime import open_session
from pipeline.signature import Signature
from pipeline.signing import Signer, Verifier

MANIFEST = "manifest.json"
_FILES = (config.MODEL_FILE, "signature.json", "parity.json")
_PARITY: dict[str, type | tuple[type, ...]] = {"passed": bool, "hashes": dict, "goldens": list}


def publish(
    run: RunDirectory,
    repository: Path,
    *,
    name: str | None = None,
    version: int | None = None,
    settings: tuple[str, ...] = (),
    variant: str | None = None,
    require_signature: Path | None = None,
    sign_key: Path | None = None,
) -> Path:
    """Publish a verified run as the next version of its model, atomically, and return the version's directory.

    ``NAME/config.pbtxt`` and ``NAME/labels.txt`` belong to the model, ``NAME/VERSION/`` holds the model file, its
    signature, its parity report and a manifest with the SHA-256 of each. The staged copy is loaded and asked the
    report's golden rows before it is put in place.

    Args:
        run: a verified run.
        repository: the model repository; made if it is not there.
        name: the model's name; the run's own by default.
        version: the version's number; the next free one by default.
        settings: changes of the recipe's ``publish`` keys, such as ``publish.instances=2``.
        variant: ``int8`` or another that was exported and verified, to be the version's ``model.onnx``.
        require_signature: the public key of whoever must have signed the run.
        sign_key: the private key that signs the version's directory.

    Raises:
        CheckFailed: the run failed verification, was changed since, is not signed as it must be, or the variant is not
            among what was verified.
        RunError: the run was never verified.
        RepositoryError: the version exists, the model's signature would change, or nothing can be written.
        UsageError: the name, a setting or a key is not allowed.
    """
    signer = Signer(sign_key) if sign_key else None
    signed = Verifier(require_signature).require(run) if require_signature else {}
    source = _require_verified(run, variant)
    keys = _keys(run, settings)
    signature = Signature.load(run.require("signature.json"))
    name = require_model_name(run.info["name"] if name is None else name)
    store = Repository(repository)
    with store.locked(), store.staging() as staging:
        number = _number(store, name, version)
        _require_same_contract(store, name, signature)
        staged = staging / name
        _stage_model(staged, name, signature, keys)
        _stage_version(run, staged / str(number), source, signed)
        _write_manifest(run, staged / str(number), name, variant)
        _require_served(staged, staged / str(number), variant)
        if signer:
            signer.sign(staged / str(number), [path.name for path in (staged / str(number)).iterdir()])
        _put(store, staged, name, number)
    return repository / name / str(number)


def _require_verified(run: RunDirectory, variant: str | None) -> str:
    """Return the name of the verified model file."""
    report = read_record(run.require("parity.json"), _PARITY)
    if not report["passed"]:
        raise CheckFailed(
            f"{run / 'parity.json'}: verification failed; nothing unverified is served. "
            f"Mend it, then `pipeline verify {run.path}` again."
        )
    for name in (config.MODEL_FILE, "signature.json", *report["hashes"]):
        if report["hashes"].get(name) != sha256_of(run.require(name)):
            raise CheckFailed(f"{run / name}: changed since it was verified. Run `pipeline verify {run.path}` again.")
    source = PRECISIONS[variant].file if variant in PRECISIONS else config.MODEL_FILE
    if variant is not None and (variant not in report.get("variants", {}) or source not in report["hashes"]):
        raise CheckFailed(
            f"{run / 'parity.json'}: no verified {variant}. Make it with `pipeline export {run.path} --variants "
            f"{variant}`, then `pipeline verify {run.path}`."
        )
    return source


def _keys(run: RunDirectory, settings: tuple[str, ...]) -> PublishKeys:
    wrong = [setting for setting in settings if not setting.strip().startswith("publish.")]
    if wrong:
        raise UsageError(f"--set {wrong[0]}: the run is trained; only publish.* can still be changed.")
    verified = recipe.load(str(run / "recipe.toml")).publish
    keys = recipe.load(str(run / "recipe.toml"), settings).publish
    if keys.max_batch_size > verified.max_batch_size:
        raise UsageError(
            f"publish.max_batch_size: {keys.max_batch_size} is more than the verified {verified.max_batch_size}. "
            "Train with the larger one."
        )
    return keys


def _number(store: Repository, name: str, version: int | None) -> int:
    versions = store.versions(name)
    if version is None:
        return max(versions, default=0) + 1
    if version in versions:
        raise RepositoryError(
            f"{store.path / name / str(version)}: exists. Versions are never overwritten: leave out --version."
        )
    return version


def _require_same_contract(store: Repository, name: str, signature: Signature) -> None:
    """Clients of a name rely on its contract: a model of another contract needs another name."""
    for version in store.versions(name)[-1:]:
        published = Signature.load(store.path / name / str(version) / "signature.json").contract
        ours = signature.contract
        changed = [key for key in ours if ours[key] != published[key]]
        if changed:
            raise RepositoryError(
                f"{store.path / name}: version {version} has another contract ({', '.join(changed)} differ). "
                "Publish under another name with --name."
            )


def _stage_model(staged: Path, name: str, signature: Signature, keys: PublishKeys) -> None:
    staged.mkdir()
    if any("\n" in label for label in signature.classes):
        raise RepositoryError(
            "a class name holds a line break, which Triton's label file cannot. Rename it in the data."
        )
    wanted = config.model_config(name, signature, keys)
    text = config.dumps(wanted)
    if config.loads(text) != wanted:
        raise RepositoryError(f"{name}: config.pbtxt does not read back as it was written.")
    write_text(staged / "config.pbtxt", text)
    write_text(staged / config.LABELS_FILE, "".join(f"{label}\n" for label in signature.classes))


def _stage_version(run: RunDirectory, staged: Path, source: str, signed: dict[str, str]) -> None:
    """Copy a version's files; whatever the model file was called, the version's signature names its bytes."""
    staged.mkdir()
    for file in _FILES:
        shutil.copyfile(run / (source if file == config.MODEL_FILE else file), staged / file)
    _require_copied(run, staged, source, signed)
    if source != config.MODEL_FILE:
        signature = Signature.load(staged / "signature.json")
        hashes = {**signature.hashes, config.MODEL_FILE: sha256_of(staged / config.MODEL_FILE)}
        dataclasses.replace(signature, hashes=hashes).save(staged / "signature.json")


def _write_manifest(run: RunDirectory, staged: Path, name: str, variant: str | None) -> None:
    evaluation = read_json(run / "evaluation.json") if (run / "evaluation.json").is_file() else {}
    manifest = {
        "format": 1,
        "name": name,
        "version": int(staged.name),
        "variant": variant or FULL_PRECISION,
        "published": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "run": str(run.path.resolve()),
        "files": {file: sha256_of(staged / file) for file in _FILES},
        "sources": run.info["hashes"],
        "dataset": run.info["dataset_hashes"],
        "test_accuracy": None if variant else evaluation.get("test", {}).get("accuracy"),  # of full precision
    }
    write_json(staged / MANIFEST, manifest)


def _require_copied(run: RunDirectory, staged: Path, source: str, signed: dict[str, str]) -> None:
    """Close the gap between the check of the run's bytes and their copy."""
    hashes = {**read_json(staged / "parity.json")["hashes"], **signed}
    copies = {source: config.MODEL_FILE, "signature.json": "signature.json"}
    if signed:
        copies["parity.json"] = "parity.json"
    for file, copied in copies.items():
        if sha256_of(staged / copied) != hashes.get(file):
            raise CheckFailed(f"{run / file}: changed while it was being published. Nothing was published.")


def _require_served(model: Path, version: Path, variant: str | None) -> None:
    """Load the staged copy and ask it the golden rows of its parity report."""
    served = config.loads((model / "config.pbtxt").read_text())
    session = open_session(version / served.default_model_filename)
    interface = Signature.load(version / "signature.json").interface
    goldens = Goldens.load(version, variant or FULL_PRECISION)
    answers = [session.run(["label", "probabilities"], feed(interface, [golden.row])) for golden in goldens.rows]
    if faults := goldens.faults((label[0, 0], probabilities[0]) for label, probabilities in answers):
        raise CheckFailed(f"{version}: the staged copy does not answer as it was verified: {faults[0]}.")


def _put(store: Repository, staged: Path, name: str, number: int) -> None:
    """Rename the whole model, or its new version, into the repository.

    A later version may bring another configuration. It goes first and comes back if the version cannot follow: the
    contract is the same, so the old version runs under either.
    """
    model = store.path / name
    if not model.exists():
        store.put(staged, model)
        return
    files = (model / "config.pbtxt", model / config.LABELS_FILE)
    before = {file: file.read_bytes() for file in files if file.is_file()}
    for file in files:
        if before.get(file) != (staged / file.name).read_bytes():
            store.replace_file(staged / file.name, file)
    try:
        store.put(staged / str(number), model / str(number))
    except BaseException:
        for file, content in before.items():
            if file.read_bytes() != content:
                write_bytes(file, content)
        raise
