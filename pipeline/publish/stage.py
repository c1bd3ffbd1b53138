"""Put a verified run into the model repository, or refuse."""

import dataclasses
import datetime
import shutil
from pathlib import Path
from typing import Any, Literal

from pipeline import recipe
from pipeline.errors import CheckFailed, RepositoryError, UsageError
from pipeline.files import read_json, sha256_of, write_json, write_text
from pipeline.gate import require_verified
from pipeline.recipe import PublishKeys
from pipeline.repository import config
from pipeline.repository.aliases import CANDIDATE_SUFFIX, Aliases
from pipeline.repository.goldens import FULL_PRECISION
from pipeline.repository.patch import merged, overruled_by, read_patch, variant_of
from pipeline.repository.transaction import WAIT_SECONDS, Repository
from pipeline.repository.version import MANIFEST, Version
from pipeline.run_directory import RunDirectory, require_model_name
from pipeline.signature import Signature
from pipeline.signing import Signer, Verifier

_FILES = (config.MODEL_FILE, "signature.json", "parity.json")


def publish(
    run: RunDirectory,
    repository: Path,
    *,
    name: str | None = None,
    version: int | None = None,
    settings: tuple[str, ...] = (),
    variant: str | None = None,
    config_patch: Path | None = None,
    alias: Literal["production", "candidate", "none"] = "production",
    wait_seconds: float = WAIT_SECONDS,
    require_signature: Path | None = None,
    sign_key: Path | None = None,
) -> Path:
    """Publish a verified run as the next version of its model, and return the version's directory.

    ``NAME/VERSION/`` appears whole and never changes: the model file, its signature, its parity report, its
    configuration, and a manifest with the SHA-256 of each. The staged copy is loaded and asked the report's golden rows
    before it is put in place. It is served once an alias names it.

    Args:
        run: a verified run.
        repository: the model repository; made if it is not there.
        name: the model's name; the run's own by default.
        version: the version's number; the next free one by default.
        settings: changes of the recipe's ``publish`` keys, such as ``publish.instances=2``.
        variant: ``int8`` or another that was exported and verified, to be the version's ``model.onnx``.
        config_patch: a patch to ``config.pbtxt``, as `pipeline tune` writes it; its variant is the variant.
        alias: what the version is to be at once.
        wait_seconds: how long to wait while somebody else changes the repository.
        require_signature: the public key of whoever must have signed the run.
        sign_key: the private key that signs the version's directory.

    Raises:
        CheckFailed: the run failed verification, was changed since, is not signed as it must be, or the variant is not
            among what was verified.
        RunError: the run was never verified.
        RepositoryError: the version exists, the model's signature would change, or nothing can be written.
        UsageError: the name, a setting or a key is not allowed, or the patch is not one, of another variant, or
            decides what a setting sets.
    """
    patch = read_patch(config_patch) if config_patch else config.loads("")
    variant = _require_tuned_for(variant, patch, config_patch)
    _require_not_overruled(settings, patch, config_patch)
    signer = Signer(sign_key) if sign_key else None
    signed = Verifier(require_signature).require(run) if require_signature else {}
    source = require_verified(run, variant)
    keys = _keys(run, settings)
    signature = Signature.load(run.require("signature.json"))
    name = _require_name(run.info["name"] if name is None else name)
    store = Repository(repository)
    aliases = Aliases(store)
    with store.locked(wait_seconds), store.staging() as staging:
        number = _number(aliases, name, version)
        _require_same_contract(store, name, signature)
        staged = staging / name / str(number)
        _stage_version(run, staged, source, signed)
        _write_config(staged, name, signature, keys, patch)
        _write_manifest(run, staged, name, variant, patch)
        Version(staged).require_answers()
        if signer:
            signer.sign(staged, [path.name for path in staged.iterdir()])
        _put(aliases, staged, name, signature)
        reason = f"published with {config_patch.name}" if config_patch else "published"
        if alias == "production":
            aliases.set_production(name, number, reason)
        elif alias == "candidate":
            aliases.set_candidate(name, number, reason)
    return repository / name / str(number)


def _require_name(name: str) -> str:
    if name.endswith(CANDIDATE_SUFFIX):
        raise UsageError(
            f"{name!r}: a model's candidate has that name. `--as candidate` makes one; choose another name."
        )
    return require_model_name(name)


def _require_tuned_for(variant: str | None, patch: Any, path: Path | None) -> str | None:
    """Return the variant to publish, which a patch that names one was found with."""
    tuned = variant_of(patch)
    if tuned is None:
        return variant
    if variant not in (None, tuned):
        raise UsageError(f"{path}: was found with {tuned}, not with --variant {variant}. Leave out one of the two.")
    return None if tuned == FULL_PRECISION else tuned


def _require_not_overruled(settings: tuple[str, ...], patch: Any, path: Path | None) -> None:
    """Refuse a setting that would do nothing."""
    overruled = overruled_by(patch)
    for setting in settings:
        if setting.partition("=")[0].strip() in overruled:
            raise UsageError(f"--set {setting}: {path} decides that. Leave out one of the two.")


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


def _number(aliases: Aliases, name: str, version: int | None) -> int:
    if version is None:
        return aliases.next_number(name)
    path = aliases.store.path / name / str(version)
    if path.exists():
        raise RepositoryError(f"{path}: exists. Versions are never overwritten: leave out --version.")
    if any((change.alias, change.after) == ("retired", version) for change in aliases.history(name)):
        raise RepositoryError(f"{path}: was retired. No number is given twice: leave out --version.")
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


def _stage_version(run: RunDirectory, staged: Path, source: str, signed: dict[str, str]) -> None:
    """Copy a version's files; whatever the model file was called, the version's signature names its bytes."""
    staged.mkdir(parents=True)
    for file in _FILES:
        shutil.copyfile(run / (source if file == config.MODEL_FILE else file), staged / file)
    _require_copied(run, staged, source, signed)
    if source != config.MODEL_FILE:
        signature = Signature.load(staged / "signature.json")
        hashes = {**signature.hashes, config.MODEL_FILE: sha256_of(staged / config.MODEL_FILE)}
        dataclasses.replace(signature, hashes=hashes).save(staged / "signature.json")


def _write_config(staged: Path, name: str, signature: Signature, keys: PublishKeys, patch: Any) -> None:
    wanted = merged(config.model_config(name, signature, keys), patch)
    text = config.dumps(wanted)
    if config.loads(text) != wanted:
        raise RepositoryError(f"{name}: config.pbtxt does not read back as it was written.")
    write_text(staged / config.CONFIG_FILE, text)


def _write_manifest(run: RunDirectory, staged: Path, name: str, variant: str | None, patch: Any) -> None:
    tested = {} if variant else _tested(run)  # it is full precision that was tested
    manifest = {
        "format": 1,
        "name": name,
        "version": int(staged.name),
        "variant": variant or FULL_PRECISION,
        "config_patch": config.dumps(patch),
        "published": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "run": str(run.path.resolve()),
        "files": {file: sha256_of(staged / file) for file in (*_FILES, config.CONFIG_FILE)},
        "sources": run.info["hashes"],
        "dataset": run.info["dataset_hashes"],
        "test_accuracy": tested.get("accuracy"),
        "test_calibration_error": tested.get("calibration", {}).get("expected_calibration_error"),
    }
    write_json(staged / MANIFEST, manifest)


def _tested(run: RunDirectory) -> dict[str, Any]:
    """Return what `pipeline evaluate` measured on the test split, if it did."""
    path = run / "evaluation.json"
    evaluation = read_json(path) if path.is_file() else {}
    tested: dict[str, Any] = evaluation.get("test", {})
    return tested


def _require_copied(run: RunDirectory, staged: Path, source: str, signed: dict[str, str]) -> None:
    """Close the gap between the check of the run's bytes and their copy."""
    hashes = {**read_json(staged / "parity.json")["hashes"], **signed}
    copies = {source: config.MODEL_FILE, "signature.json": "signature.json"}
    if signed:
        copies["parity.json"] = "parity.json"
    for file, copied in copies.items():
        if sha256_of(staged / copied) != hashes.get(file):
            raise CheckFailed(f"{run / file}: changed while it was being published. Nothing was published.")


def _put(aliases: Aliases, staged: Path, name: str, signature: Signature) -> None:
    """Rename the version into the repository, where nobody is served by it yet.

    The label file is as old as the model: the classes are a part of the contract, which no later version changes.
    """
    store, model = aliases.store, aliases.store.path / name
    labels = config.labels(signature)
    if store.versions(name):
        aliases.pin(name)
        store.put(staged, model / staged.name)
    elif model.exists():  # its versions were all retired
        store.write_text(model / config.LABELS_FILE, labels)
        store.put(staged, model / staged.name)
    else:
        write_text(staged.parent / config.LABELS_FILE, labels)
        store.put(staged.parent, model)
