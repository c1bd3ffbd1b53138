"""``config.pbtxt``, complete, through Triton's own protobufs; the same file serves every Triton."""

import json

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from pipeline.errors import RepositoryError
from pipeline.recipe import PublishKeys
from pipeline.signature import BATCH, Signature, Tensor

_TYPES = {
    "STRING": pb.DataType.TYPE_STRING,
    "FP32": pb.DataType.TYPE_FP32,
    "INT64": pb.DataType.TYPE_INT64,
    "BOOL": pb.DataType.TYPE_BOOL,
}
CONFIG_FILE = "config.pbtxt"
LABELS_FILE = "labels.txt"
MODEL_FILE = "model.onnx"
SERVED_PARAMETERS = ("version", "model_sha256")


def model_config(name: str, signature: Signature, keys: PublishKeys) -> pb.ModelConfig:
    """Return the configuration of a version, complete but for what `served` adds.

    Units: the queue delay is in microseconds, as in Triton.
    """
    config = pb.ModelConfig(
        name=name,
        backend="onnxruntime",
        default_model_filename=MODEL_FILE,
        max_batch_size=keys.max_batch_size,
        input=[pb.ModelInput(name=t.name, data_type=_TYPES[t.dtype], dims=_dims(t)) for t in signature.inputs],
        output=[pb.ModelOutput(name=t.name, data_type=_TYPES[t.dtype], dims=_dims(t)) for t in signature.outputs],
        # KIND_AUTO: on a GPU where the server has one, on the CPU elsewhere
        instance_group=[pb.ModelInstanceGroup(kind=pb.ModelInstanceGroup.KIND_AUTO, count=keys.instances)],
        dynamic_batching=pb.ModelDynamicBatching(
            max_queue_delay_microseconds=keys.max_queue_delay_microseconds,
            default_queue_policy=pb.ModelQueuePolicy(max_queue_size=keys.max_queue_size),
        ),
    )
    config.output[0].label_filename = LABELS_FILE
    parameters = {"intra_op_thread_count": str(keys.threads), "classes": json.dumps(signature.classes)}
    for key, value in parameters.items():
        config.parameters[key].string_value = value
    return config


def served(config: pb.ModelConfig, name: str, version: int, sha256: str) -> pb.ModelConfig:
    """Return a version's configuration as it is served: under a name, that version alone.

    `SERVED_PARAMETERS` let whoever asks a server for its configuration see what it serves.
    """
    result = pb.ModelConfig()
    result.CopyFrom(config)
    result.name = name
    result.version_policy.CopyFrom(pb.ModelVersionPolicy(specific={"versions": [version]}))
    for key, value in zip(SERVED_PARAMETERS, (str(version), sha256), strict=True):
        result.parameters[key].string_value = value
    return result


def labels(signature: Signature) -> str:
    """Return the content of `LABELS_FILE`.

    Raises:
        RepositoryError: a class name holds a line break.
    """
    if any("\n" in label for label in signature.classes):
        raise RepositoryError(
            "a class name holds a line break, which Triton's label file cannot. Rename it in the data."
        )
    return "".join(f"{label}\n" for label in signature.classes)


def dumps(config: pb.ModelConfig) -> str:
    """Write a configuration as ``config.pbtxt``."""
    return text_format.MessageToString(config)  # type: ignore[no-any-return]


def loads(text: str) -> pb.ModelConfig:
    """Read a ``config.pbtxt``.

    Raises:
        google.protobuf.text_format.ParseError: the text is not one.
    """
    return text_format.Parse(text, pb.ModelConfig())


def _dims(tensor: Tensor) -> list[int]:
    """Return a tensor's axes without the batch: Triton adds it; a dynamic axis is −1."""
    axes = [axis for axis in tensor.shape if axis != BATCH]
    return [axis if isinstance(axis, int) else -1 for axis in axes]
