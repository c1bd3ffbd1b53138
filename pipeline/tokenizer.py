"""Text to token ids, as an ONNX graph: the only tokenizer there is.

Training encodes through it and export puts it, unchanged, in front of the model. It needs nothing but standard
operators and the ``com.microsoft`` Tokenizer that every stock ONNX Runtime carries.

What it does with a text, in this order:

1. The text ends at its first NUL. Triton's C++ backend hands ONNX Runtime C strings; this makes every way in agree.
2. Bytes that are not UTF-8 make the row empty and ``valid`` false. Without it one such row fails its whole batch.
3. Lower-casing, when asked for; letter by letter, all scripts (``C.UTF-8`` is the locale that every image has).
4. Tokens: runs of letters, digits and marks; each Han character; each punctuation mark or symbol. Or each character.
5. The first ``max_tokens`` are kept. A token's id is its place in the vocabulary plus 2; 1 is any other token.
6. Rows are padded with id 0 to the longest, plus one column, so that a row without tokens still has one step.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pipeline.errors import DataError
from pipeline.files import sha256_of
from pipeline.recipe import TokenizerKeys
from pipeline.runtime import open_session
from pipeline.sequences import Sequences
from pipeline.signature import BATCH, SEQ

IR_VERSION = 10
OPSET = 20
OPSETS = [
    helper.make_opsetid("", OPSET),
    helper.make_opsetid("ai.onnx.ml", 4),
    helper.make_opsetid("com.microsoft", 1),
]
PADDING_ID = 0
UNKNOWN_ID = 1
FIRST_WORD_ID = 2

# RE2 has no set difference: a letter, digit or mark is what is neither separator, control, punctuation nor symbol.
PATTERNS = {"word": r"[^\p{Z}\p{C}\p{P}\p{S}\p{Han}]+|\p{Han}|[\p{P}\p{S}]", "character": r"(?s)."}
# RE2's dot also matches encoded surrogates, which StringNormalizer then refuses, and with them the whole batch.
UTF8 = r"[\x{0}-\x{D7FF}\x{E000}-\x{10FFFF}]*"
_NO_TOKEN = "\0"  # noqa: S105 - pads the token matrix; no text that reaches the tokenizer contains it
_CHUNK = 512
_WINDOW = 2**14  # texts in memory while their tokens are counted


class Tokenizer:
    """A fitted tokenizer graph, ready to encode.

    Raises:
        PipelineError: the file is not a model that ONNX Runtime loads.
    """

    def __init__(self, model: Path | bytes) -> None:
        self._session = open_session(model)
        self.sha256 = sha256_of(model) if isinstance(model, Path) else hashlib.sha256(model).hexdigest()

    def encode(self, texts: Sequence[str]) -> Sequences:
        """Return each text's token ids; a text without tokens is one padding id."""
        pieces: list[np.ndarray] = [np.empty(0, np.int64)] * len(texts)
        for indices in _by_size(texts):
            feed = np.array([[texts[index]] for index in indices], dtype=object)
            token_ids, lengths = self._session.run(["token_ids", "lengths"], {"text": feed})
            for index, row, length in zip(indices, token_ids, lengths[:, 0], strict=True):
                pieces[index] = row[:length].copy()
        return Sequences.join(pieces)


def fit(texts: Iterable[str], keys: TokenizerKeys) -> onnx.ModelProto:
    """Fit a tokenizer on the texts of the training split, and return its graph.

    The vocabulary holds the most frequent tokens; of equally frequent ones, the lower code points come first.

    Raises:
        DataError: no token occurs often enough.
    """
    splitter = open_session(_model(_split_nodes(keys), keys, ["tokens"]).SerializeToString())
    counts: Counter[str] = Counter()
    left = iter(texts)
    while some := list(islice(left, _WINDOW)):
        for indices in _by_size(some):
            feed = np.array([[some[index]] for index in indices], dtype=object)
            (tokens,) = splitter.run(["tokens"], {"text": feed})
            counts.update(tokens.ravel().tolist())
    del counts[_NO_TOKEN]
    frequent = sorted((-count, token) for token, count in counts.items() if count >= keys.min_count)
    vocabulary = [token for _, token in frequent[: keys.max_vocabulary]]
    if not vocabulary:
        raise DataError(
            f"tokenizer: none of {len(counts)} distinct tokens occurs tokenizer.min_count = {keys.min_count} times. "
            "Lower it, or give more text."
        )
    return build(vocabulary, keys)


def build(vocabulary: Sequence[str], keys: TokenizerKeys) -> onnx.ModelProto:
    """Return the tokenizer graph of a vocabulary.

    Shapes:
        text: (batch, 1) string → token_ids: (batch, seq) int64, lengths: (batch, 1) int64, valid: (batch, 1) bool.
    """
    lookup = helper.make_node(
        "LabelEncoder",
        ["tokens"],
        ["vocabulary_ids"],
        name="vocabulary",
        domain="ai.onnx.ml",
        keys_strings=[_NO_TOKEN, *vocabulary],
        values_int64s=[PADDING_ID, *range(FIRST_WORD_ID, FIRST_WORD_ID + len(vocabulary))],
        default_int64=UNKNOWN_ID,
    )
    node = helper.make_node
    nodes = [
        *_split_nodes(keys),
        lookup,
        node("Pad", ["vocabulary_ids", "one_column", "padding_id"], ["token_ids"]),
        node("Greater", ["token_ids", "padding_id"], ["is_token"]),
        node("Cast", ["is_token"], ["is_token_int64"], to=TensorProto.INT64),
        node("ReduceSum", ["is_token_int64", "axis_one"], ["token_count"], keepdims=1),
        node("Max", ["token_count", "one"], ["lengths"]),
    ]
    return _model(nodes, keys, ["token_ids", "lengths", "valid"])


def read_vocabulary(model: onnx.ModelProto) -> list[str]:
    """Return the vocabulary of a graph that holds a tokenizer; the token of id 2 comes first."""
    (lookup,) = (node for node in model.graph.node if node.name.endswith("vocabulary"))
    (keys,) = (attribute.strings for attribute in lookup.attribute if attribute.name == "keys_strings")
    return [key.decode() for key in keys[1:]]


def _split_nodes(keys: TokenizerKeys) -> list[onnx.NodeProto]:
    """Return the nodes from ``text`` to the matrix ``tokens`` and to ``valid``."""
    node = helper.make_node
    nodes = [
        node("StringConcat", ["text", "nul"], ["text_with_nul"]),  # else StringSplit gives an empty text no parts
        node("StringSplit", ["text_with_nul"], ["nul_parts", "nul_count"], delimiter=b"\0", maxsplit=1),
        node("Gather", ["nul_parts", "first"], ["text_to_nul"], axis=2),
        node("RegexFullMatch", ["text_to_nul"], ["valid"], pattern=UTF8),
        node("Where", ["valid", "text_to_nul", "empty_text"], ["valid_text"]),
        node("Squeeze", ["valid_text", "axis_one"], ["rows"]),
    ]
    rows = "rows"
    if keys.lowercase:
        rows = "lowered"
        nodes.append(node("StringNormalizer", ["rows"], [rows], case_change_action="LOWER", locale="C.UTF-8"))
    split = node(
        "Tokenizer",
        [rows],
        ["all_tokens"],
        domain="com.microsoft",
        tokenexp=PATTERNS[keys.level],
        mark=0,
        mincharnum=1,
        pad_value=_NO_TOKEN,
    )
    cut = node("Slice", ["all_tokens", "zero", "max_tokens", "axis_one"], ["tokens"])
    return [*nodes, split, cut]


_OUTPUTS: dict[str, tuple[int, list[str | int]]] = {
    "tokens": (TensorProto.STRING, [BATCH, "tokens"]),
    "token_ids": (TensorProto.INT64, [BATCH, SEQ]),
    "lengths": (TensorProto.INT64, [BATCH, 1]),
    "valid": (TensorProto.BOOL, [BATCH, 1]),
}


def _model(nodes: list[onnx.NodeProto], keys: TokenizerKeys, outputs: list[str]) -> onnx.ModelProto:
    constants = {
        "first": np.array(0),
        "zero": np.array([0]),
        "one": np.array([1]),
        "axis_one": np.array([1]),
        "max_tokens": np.array([keys.max_tokens]),
        "one_column": np.array([0, 0, 0, 1]),
        "padding_id": np.array(PADDING_ID),
    }
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "tokenizer",
        [helper.make_tensor_value_info("text", TensorProto.STRING, [BATCH, 1])],
        [helper.make_tensor_value_info(name, *_OUTPUTS[name]) for name in outputs],
        [
            TensorProto(name="empty_text", data_type=TensorProto.STRING, string_data=[b""]),
            TensorProto(name="nul", data_type=TensorProto.STRING, string_data=[b"\0"]),  # make_tensor would strip it
            *(numpy_helper.from_array(value, name) for name, value in constants.items() if name in used),
        ],
        # onnx knows no shape for com.microsoft operators, and its inference crashes on what follows without one
        value_info=[helper.make_tensor_value_info("all_tokens", TensorProto.STRING, [BATCH, "all_tokens"])],
    )
    model = helper.make_model(graph, opset_imports=OPSETS, ir_version=IR_VERSION, producer_name="pipeline")
    onnx.checker.check_model(model, full_check=True)
    return model


def _by_size(texts: Sequence[str]) -> Iterator[np.ndarray]:
    """Yield every index once, in chunks of texts of similar size."""
    order = np.argsort([len(text) for text in texts], kind="stable")
    for start in range(0, len(order), _CHUNK):
        yield order[start : start + _CHUNK]
