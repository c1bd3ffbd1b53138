"""From a run to the model that is served."""

import dataclasses

import onnx

from pipeline.export.classifier import classifier_graph
from pipeline.export.fuse import fuse
from pipeline.export.variants import remove_variants
from pipeline.files import sha256_of, write_bytes
from pipeline.reference import Reference
from pipeline.run_directory import RunDirectory
from pipeline.runtime import open_session
from pipeline.signature import Signature


def export(run: RunDirectory) -> Signature:
    """Write ``model.onnx``, one self-contained file, and its ``signature.json``.

    The same run gives the same bytes each time. Nothing is written unless the ONNX checker passes the model and ONNX
    Runtime loads it; a parity report of earlier bytes no longer counts, because it names their hash, and variants of
    them are removed.

    Raises:
        RunError: the run is not whole.
        PipelineError: the disk is full, or the model does not load.
    """
    reference = Reference.load(run)
    signature = reference.signature
    tokenizer = onnx.load(run / "tokenizer.onnx") if reference.tokenizer else None
    classifier = classifier_graph(reference.model, "token_ids" if tokenizer else "features")
    model = fuse(tokenizer, classifier, signature)
    onnx.checker.check_model(model, full_check=True)
    content = model.SerializeToString(deterministic=True)
    open_session(content)
    if not (run / "model.onnx").is_file() or (run / "model.onnx").read_bytes() != content:
        remove_variants(run)
    write_bytes(run / "model.onnx", content)
    signature = dataclasses.replace(
        signature, hashes={**run.info["hashes"], "model.onnx": sha256_of(run / "model.onnx")}
    )
    signature.save(run / "signature.json")
    return signature
