"""A patch to ``config.pbtxt``: how a version is served, as `pipeline tune` writes it and `pipeline publish` takes it.

::

    instance_group { count: 2 }
    dynamic_batching { preferred_batch_size: 16 max_queue_delay_microseconds: 1000 }
    parameters { key: "intra_op_thread_count" value { string_value: "1" } }
    parameters { key: "enable_mem_arena" value { string_value: "0" } }
    parameters { key: "variant" value { string_value: "int8" } }

Nothing else may stand in it: what a version takes, answers and is called was verified, and stays as it is. What a patch
leaves out stays as the recipe has it; its ``dynamic_batching`` replaces both of the recipe's figures. The variant
changes nothing: it says which model the figures were found with.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf.text_format import ParseError
from tritonclient.grpc import model_config_pb2 as pb

from pipeline.errors import UsageError
from pipeline.repository.config import loads

THREADS, ARENA, VARIANT = "intra_op_thread_count", "enable_mem_arena", "variant"
_BATCHING = ("preferred_batch_size", "max_queue_delay_microseconds")
_TUNABLE = (
    "instance_group.count",
    *(f"dynamic_batching.{field}" for field in _BATCHING),
    *(f"parameters.{key}" for key in (THREADS, ARENA, VARIANT)),
)
_REASONS = {
    "response_cache": " (its key ignores which outputs are asked for, so one caller could cut another's answer)"
}
_MOST_COPIES = 1024
_MOST_DELAY_MICROSECONDS = 60_000_000


def make_patch(
    *, instances: int, threads: int, delay_microseconds: int, preferred: tuple[int, ...], arena: bool, variant: str
) -> pb.ModelConfig:
    """Return a patch that says all that a patch can say."""
    patch = pb.ModelConfig(
        instance_group=[pb.ModelInstanceGroup(count=instances)],
        dynamic_batching=pb.ModelDynamicBatching(
            preferred_batch_size=preferred, max_queue_delay_microseconds=delay_microseconds
        ),
    )
    for key, value in ((THREADS, str(threads)), (ARENA, str(int(arena))), (VARIANT, variant)):
        patch.parameters[key].string_value = value
    return patch


def read_patch(path: Path) -> pb.ModelConfig:
    """Read a patch.

    Raises:
        UsageError: there is no such file, it is no ``config.pbtxt``, it says more than a patch may, or a value is out
            of range.
    """
    try:
        patch = loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, ParseError) as error:
        raise UsageError(f"{path}: not a patch to config.pbtxt: {error}. `pipeline tune` writes one.") from error
    foreign = [field for field in _fields(patch) if field not in (*_TUNABLE, "dynamic_batching")]
    if foreign:
        reason = _REASONS.get(foreign[0].partition(".")[0], "")
        raise UsageError(f"{path}: {foreign[0]} is not for a patch to change{reason}; wanted {', '.join(_TUNABLE)}.")
    for problem in _problems(patch):
        raise UsageError(f"{path}: {problem}. Correct it, or run `pipeline tune` again.")
    return patch


def merged(config: pb.ModelConfig, patch: pb.ModelConfig) -> pb.ModelConfig:
    """Return a configuration as a patch changes it.

    Raises:
        UsageError: a preferred batch is larger than the largest that the configuration allows.
    """
    result = pb.ModelConfig()
    result.CopyFrom(config)
    for group in patch.instance_group:
        result.instance_group[0].count = group.count
    if patch.HasField("dynamic_batching"):
        for field in _BATCHING:
            result.dynamic_batching.ClearField(field)
        result.dynamic_batching.MergeFrom(patch.dynamic_batching)
    for key, value in patch.parameters.items():
        result.parameters[key].CopyFrom(value)
    for size in patch.dynamic_batching.preferred_batch_size:
        if size > config.max_batch_size:
            raise UsageError(
                f"preferred_batch_size: wanted at most max_batch_size, {config.max_batch_size}, got {size}."
            )
    return result


def overruled_by(patch: pb.ModelConfig) -> list[str]:
    """Return the recipe's keys, such as ``publish.instances``, that a patch decides."""
    decides = {
        "publish.instances": bool(patch.instance_group),
        "publish.threads": THREADS in patch.parameters,
        "publish.max_queue_delay_microseconds": patch.HasField("dynamic_batching"),
    }
    return [key for key, does in decides.items() if does]


def variant_of(patch: pb.ModelConfig) -> str | None:
    """Return the variant that a patch was found with; None where it does not say."""
    return patch.parameters[VARIANT].string_value if VARIANT in patch.parameters else None


def _fields(message: Any, before: str = "") -> Iterator[str]:
    """Yield the path of each field that is set, down to the leaves, and the keys of maps."""
    for field, value in message.ListFields():
        path = before + field.name
        if field.message_type is None:
            yield path
        elif field.message_type.GetOptions().map_entry:
            yield from (f"{path}.{key}" for key in value)
        else:
            for item in [value] if hasattr(value, "ListFields") else value:
                yield from list(_fields(item, f"{path}.")) or [path]


def _problems(patch: pb.ModelConfig) -> Iterator[str]:
    """Yield what is wrong with the values."""
    counts = [group.count for group in patch.instance_group]
    if len(counts) > 1:
        yield f"instance_group: wanted one, got {len(counts)}"
    if any(not 1 <= count <= _MOST_COPIES for count in counts):
        yield f"instance_group.count: wanted 1 to {_MOST_COPIES}, got {counts[0]}"
    if (delay := patch.dynamic_batching.max_queue_delay_microseconds) > _MOST_DELAY_MICROSECONDS:
        yield f"dynamic_batching.max_queue_delay_microseconds: wanted at most {_MOST_DELAY_MICROSECONDS}, got {delay}"
    if any(size < 1 for size in patch.dynamic_batching.preferred_batch_size):
        yield "dynamic_batching.preferred_batch_size: wanted at least 1"
    wanted = {THREADS: [str(n) for n in range(_MOST_COPIES + 1)], ARENA: ["0", "1"]}
    for key, item in patch.parameters.items():
        if key in wanted and item.string_value not in wanted[key]:
            yield f"parameter {key}: wanted {wanted[key][0]} to {wanted[key][-1]}, got {item.string_value!r}"
