"""Signatures with an elliptic-curve key, as `model_signing verify key` reads them: the optional extra ``sign``.

::

    RUN/model.sig               `pipeline verify --sign-key`: these files passed every check
    NAME/VERSION/model.sig      `pipeline publish --sign-key`: these files were published as this version

A signature is a Sigstore bundle: an in-toto statement of each file's SHA-256 in a signed DSSE envelope. The first one
is for `pipeline publish --require-signature`, the second for whoever takes models out of the repository.
"""

import base64
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.errors import CheckFailed, PipelineError, UsageError
from pipeline.files import write_bytes
from pipeline.run_directory import RunDirectory

SIGNATURE = "model.sig"
PASSWORD = "PIPELINE_SIGN_KEY_PASSWORD"  # noqa: S105 - the variable's name
_OF_A_RUN = (
    "run.json",
    "recipe.toml",
    "tokenizer.onnx",
    "weights.safetensors",
    "evaluation.json",
    "signature.json",
    "parity.json",
    "model*.onnx",
)
_MAKE = {
    "private": "openssl ecparam -name prime256v1 -genkey -noout -out private.pem",
    "public": "openssl ec -in private.pem -pubout -out public.pem",
}


def run_files(run: RunDirectory) -> list[str]:
    """Return the names of a run's files that a signature is about: all that `publish` reads, and their sources."""
    return sorted(path.name for pattern in _OF_A_RUN for path in run.path.glob(pattern) if path.is_file())


class Signer:
    """Signs files with a private key, whose password, if it has one, is read from the environment.

    Raises:
        UsageError: the key cannot be used, or the extra is not installed.
    """

    def __init__(self, key: Path) -> None:
        password = os.environ.get(PASSWORD, "").encode() or None  # bytes, though model_signing 1.1.1 says str
        with _reading(key, "private"):
            from model_signing import signing

            self._config = signing.Config().use_elliptic_key_signer(private_key=key, password=password)

    def sign(self, folder: Path, names: list[str]) -> Path:
        """Write a folder's signature, about some of its files, whole or not at all, and return its path.

        Raises:
            PipelineError: a file cannot be hashed, or the signature not be written; an earlier one is intact.
        """
        with tempfile.TemporaryDirectory() as temporary:  # the library writes bit by bit
            bundle = Path(temporary) / SIGNATURE
            try:
                self._config.set_hashing_config(_Files(names)).sign(folder, bundle)
            except ValueError as error:
                raise PipelineError(f"{folder}: cannot be signed: {error}") from error
            write_bytes(folder / SIGNATURE, bundle.read_bytes())
        return folder / SIGNATURE


class Verifier:
    """Checks signatures with a public key.

    Raises:
        UsageError: the key cannot be used, or the extra is not installed.
    """

    def __init__(self, key: Path) -> None:
        self._key = key
        with _reading(key, "public"):
            from model_signing import verifying

            self._config = verifying.Config().use_elliptic_key_verifier(public_key=key)

    def require(self, run: RunDirectory) -> dict[str, str]:
        """Return the SHA-256 of each of a run's files, which are those that were signed, no more and no fewer.

        Raises:
            CheckFailed: there is no signature, it is not by this key, or the files are others.
        """
        path, files = run / SIGNATURE, _Files(run_files(run))
        again = f"Only `pipeline verify {run.path} --sign-key KEY` signs it."
        if not path.is_file():
            raise CheckFailed(f"{path}: missing: nobody signed this run. {again}")
        try:
            with contextlib.redirect_stdout(sys.stderr):  # the library prints its warnings
                self._config.set_hashing_config(files).verify(run.path, path)
        except Exception as error:  # what stands in the file is anybody's
            if files.found is None:
                raise CheckFailed(f"{path}: not a signature by the key of {self._key}. {again}") from error
            other = ", ".join(sorted({name for name, _ in files.found.items() ^ _signed(path).items()}))
            raise CheckFailed(f"{run.path}: not what was signed: {other}. {again}") from error
        return files.found or {}


class _Files:
    """Some files of a folder, and no others, in the place of model_signing's `hashing.Config`.

    Attributes:
        found: the SHA-256 of each; None until it is asked for, which nobody does for a signature by another key.
    """

    def __init__(self, names: list[str]) -> None:
        self._names = names
        self.found: dict[str, str] | None = None

    def hash(self, folder: Path, *, files_to_hash: object = None) -> Any:  # noqa: ARG002 - ours are known
        from model_signing import hashing

        config = hashing.Config().set_ignored_paths(paths=(), ignore_git_paths=False)
        self.found = {}
        manifest = config.hash(folder, files_to_hash=[folder / name for name in self._names])
        self.found = {item.identifier: item.digest.digest_hex for item in manifest.resource_descriptors()}
        return manifest

    def add_ignored_paths(self, **_: object) -> None:
        """Ignore nothing, whatever the signature asks for."""


def _signed(signature: Path) -> dict[str, str]:
    """Return the SHA-256 of each file that a signature is about."""
    envelope = json.loads(signature.read_bytes())["dsseEnvelope"]
    statement = json.loads(base64.b64decode(envelope["payload"]))
    return {item["name"]: item["digest"] for item in statement["predicate"].get("resources", ())}


@contextlib.contextmanager
def _reading(key: Path, kind: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise UsageError(
            f"signatures need {error.name}, which is not installed: `pip install 'pipeline[sign]'`."
        ) from error
    except OSError as error:
        raise UsageError(f"{key}: cannot be read: {error.strerror}. Make one with `{_MAKE[kind]}`.") from error
    except Exception as error:
        if "password" in str(error).lower():
            raise UsageError(f"{key}: {str(error).rstrip('.')}. The password is read from ${PASSWORD}.") from error
        raise UsageError(
            f"{key}: not a {kind} key in PEM form on the curve P-256, P-384 or P-521. Make one with `{_MAKE[kind]}`."
        ) from error
