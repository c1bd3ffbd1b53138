"""The price of a call: terms that grow as the graph's own work does, and what one of each costs on a machine.

seconds = call + load · D·ΣG(I+H)H + step · T·L·D + weight · T·D·ΣGHH
          + operation · B·T·D·Σ2G(I+H)H + unit · B·T·D·ΣH + byte · bytes + row · B

Legend: B rows in a batch, T steps, L layers, D directions, G gates, I numbers that enter a layer, H units of a layer;
Σ over the layers. All weights come into the cache once a call, the recurrent ones are read again at every step, however
many rows share them: that is what a batch saves.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import RunError, UsageError
from pipeline.files import read_record

Prices = dict[str, float]
FORMAT = 1


@dataclass(frozen=True)
class Network:
    """What the cost of a model grows with.

    Attributes:
        layers: numbers that enter each recurrent layer, and its units: (I, H).
        directions: 1 or 2.
        gates: 4 of an LSTM, 3 of a GRU.
        vocabulary: token ids there are; 0 for features.
        file_bytes: size of the model's file.
    """

    layers: tuple[tuple[int, int], ...]
    directions: int
    gates: int
    vocabulary: int
    file_bytes: int

    @property
    def operations(self) -> int:
        """Multiplications and additions of one step of one row."""
        return self.directions * sum(2 * self.gates * H * (inputs + H) for inputs, H in self.layers)

    @property
    def weights(self) -> int:
        """Weights of the recurrent layers: each is multiplied and added once for a step of a row."""
        return self.operations // 2

    @property
    def recurrent_weights(self) -> int:
        """Weights that are read again at every step."""
        return self.directions * sum(self.gates * H * H for _, H in self.layers)

    @property
    def units(self) -> int:
        """Hidden units of all layers and directions."""
        return self.directions * sum(H for _, H in self.layers)

    @property
    def activation_bytes(self) -> int:
        """Float32 bytes of one step of one row: what enters each layer, its gates, its states and its outputs."""
        return 4 * sum(inputs + self.directions * (self.gates + 2) * H for inputs, H in self.layers)


@dataclass(frozen=True)
class Call:
    """One run of the graph: rows, steps of the longest, bytes of all texts together (0 for features)."""

    rows: int
    tokens: int
    text_bytes: float = 0.0


def time_terms(network: Network, call: Call) -> dict[str, float]:
    """Return how much of each kind of work a call is."""
    steps = call.rows * call.tokens
    return {
        "call": 1.0,
        "load": network.weights,
        "step": call.tokens * len(network.layers) * network.directions,
        "weight": call.tokens * network.recurrent_weights,
        "operation": steps * network.operations,
        "unit": steps * network.units,
        "byte": call.text_bytes,
        "row": call.rows,
    }


def memory_terms(network: Network, call: Call) -> dict[str, float]:
    """Return what the memory of one session grows with, once it has made a call; the price of each is in bytes."""
    return {
        "session": 1.0,
        "file_byte": network.file_bytes,
        "token": network.vocabulary,
        "activation_byte": call.rows * call.tokens * network.activation_bytes,
    }


def fitted(terms: Sequence[dict[str, float]], measured: Sequence[float]) -> Prices:
    """Return the prices, none below zero, that leave the least squares of relative errors.

    A measurement that something else slowed down weighs less than 1, however slow it was. The solution is exact: of all
    choices of terms, the best one whose plain least squares has no negative price.
    """
    names = list(terms[0])
    A = np.array([[row[name] for name in names] for row in terms]) / np.array(measured)[:, None]
    scale = np.linalg.norm(A, axis=0)
    A = A / np.where(scale > 0, scale, 1)
    best, least = np.zeros(len(names)), np.inf
    for choice in _choices(np.flatnonzero(scale > 0)):
        prices = np.linalg.lstsq(A[:, choice], np.ones(len(A)), rcond=None)[0]
        error = float(np.square(A[:, choice] @ prices - 1).sum())
        if (prices >= 0).all() and error < least:
            best, least = np.zeros(len(names)), error
            best[choice] = prices
    return dict(zip(names, (best / np.where(scale > 0, scale, 1)).tolist(), strict=True))


def _choices(columns: np.ndarray) -> list[list[int]]:
    sizes = range(1, len(columns) + 1)
    return [list(choice) for size in sizes for choice in itertools.combinations(columns.tolist(), size)]


def total(prices: Prices, terms: dict[str, float]) -> float:
    """Return what an amount of work costs."""
    return sum(prices[name] * amount for name, amount in terms.items())


def errors(prices: Prices, terms: Sequence[dict[str, float]], measured: Sequence[float]) -> dict[str, float]:
    """Return by which factor predictions miss, up or down: the median and the worst of them; 1 is exact."""
    predicted = np.array([total(prices, row) for row in terms])
    factors = np.exp(np.abs(np.log(predicted / np.array(measured))))
    return {"measurements": len(factors), "median": float(np.median(factors)), "worst": float(factors.max())}


@dataclass(frozen=True)
class Cost:
    """A model's prices on a machine: what ``cost.json`` holds.

    Attributes:
        name: of the run.
        network: what was measured.
        seconds: by the threads of a session, the prices of `time_terms`.
        missed: by the threads of a session, by which factor held-out calls were missed, in the median.
        memory: the prices of `memory_terms`.
        process_bytes: of a process before it opens a session.
        crowding: how much longer a call of one thread takes while every core makes one.
        cores: of the machine that was measured; 1 on a GPU.
        lengths: quantiles of the tokens of the run's own texts, the shortest first.
        bytes_per_token: of a text.
        max_tokens: where the model cuts a text; 0 for nowhere.
        max_batch_size: rows that Triton may put into one batch.
    """

    name: str
    network: Network
    seconds: dict[int, Prices]
    missed: dict[int, float]
    memory: Prices
    process_bytes: int
    crowding: float
    cores: int
    lengths: tuple[int, ...]
    bytes_per_token: float
    max_tokens: int
    max_batch_size: int

    @classmethod
    def load(cls, path: Path) -> "Cost":
        """Read what `pipeline bench cost` wrote.

        Raises:
            UsageError: there is no such file.
            RunError: it is another one, or was cut off.
        """
        if not path.is_file():
            raise UsageError(f"{path}: no such file. Make it with `pipeline bench cost RUN`, or name it with --cost.")
        record = read_record(path, {"network": dict, "seconds": dict, "memory": dict})
        try:
            return cls.of(record)
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(f"{path}: not a cost model ({error!r}). Run `pipeline bench cost` again.") from error

    @classmethod
    def of(cls, record: dict[str, Any]) -> "Cost":
        """Make it from the content of ``cost.json``."""
        network = record["network"]
        return cls(
            name=record["name"],
            network=Network(**{**network, "layers": tuple((inputs, H) for inputs, H in network["layers"])}),
            seconds={int(threads): dict(prices) for threads, prices in record["seconds"].items()},
            missed={int(threads): float(factor) for threads, factor in record["missed"].items()},
            memory=dict(record["memory"]),
            process_bytes=int(record["process_bytes"]),
            crowding=float(record["crowding"]),
            cores=int(record["cores"]),
            lengths=tuple(record["lengths"]),
            bytes_per_token=float(record["bytes_per_token"]),
            max_tokens=int(record["max_tokens"]),
            max_batch_size=int(record["max_batch_size"]),
        )

    def call(self, rows: int, tokens: int) -> Call:
        """Return the call of some texts of one length."""
        return Call(rows, tokens, rows * tokens * self.bytes_per_token)

    def call_seconds(self, threads: int, rows: int, tokens: int) -> float:
        """Return the seconds of a call of one session, alone on the machine."""
        return total(self.seconds[threads], time_terms(self.network, self.call(rows, tokens)))

    def shares(self, threads: int, rows: int, tokens: int) -> dict[str, float]:
        """Return which share of a call's time each term takes, the largest first."""
        terms = time_terms(self.network, self.call(rows, tokens))
        parts = {name: self.seconds[threads][name] * amount for name, amount in terms.items()}
        whole = sum(parts.values())
        return {name: part / whole for name, part in sorted(parts.items(), key=lambda item: -item[1]) if part}

    def instance_bytes(self, rows: int, tokens: int) -> float:
        """Return what one instance takes, a process of its own as in the wheel's Triton, after its largest call."""
        return self.process_bytes + total(self.memory, memory_terms(self.network, self.call(rows, tokens)))
