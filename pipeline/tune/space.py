"""Which configurations there are: a grid over what a patch may say, its coarse points, and each point's neighbours."""

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from pipeline.repository import config
from pipeline.repository.patch import make_patch

DELAYS = (0, 1000, 2000, 5000)
COARSE_DELAYS = (0, 2000)
PREFERRED = (8, 16, 32, 64, 128)


@dataclass(frozen=True)
class Candidate:
    """One configuration.

    Attributes:
        variant: ``fp32``, or a variant that the run kept.
        instances: copies of the model that work at once.
        threads: threads of each copy.
        delay_microseconds: how long Triton may hold a request to fill a batch.
        preferred: the batch sizes it holds one for; empty for none.
        arena: whether ONNX Runtime keeps the memory it has once had.
    """

    variant: str
    instances: int
    threads: int
    delay_microseconds: int = 0
    preferred: tuple[int, ...] = ()
    arena: bool = True

    def __str__(self) -> str:
        batches = f", batches of {', '.join(map(str, self.preferred))}" if self.preferred else ""
        return (
            f"{self.variant}, {self.instances} × {self.threads} thread{'s' * (self.threads != 1)}, "
            f"delay {self.delay_microseconds / 1000:g} ms{batches}{'' if self.arena else ', no arena'}"
        )

    def patch(self) -> str:
        """Return it as a patch to ``config.pbtxt``."""
        return config.dumps(make_patch(**asdict(self)))

    @classmethod
    def of(cls, record: dict[str, Any]) -> "Candidate":
        """Return the one that a record of JSON tells of."""
        return cls(**{**record, "preferred": tuple(record["preferred"])})


@dataclass(frozen=True)
class Space:
    """What is searched.

    Attributes:
        start: the configuration that the recipe says, tried before all others.
        variants: those that are verified and can run here.
        cores: instances × threads go up to one more.
        max_batch_size: of the model.
    """

    start: Candidate
    variants: tuple[str, ...]
    cores: int
    max_batch_size: int

    @property
    def copies(self) -> list[tuple[int, int]]:
        """Instances and threads: powers of two, and what fills the cores."""
        sizes = self._sizes()
        return [(one, many) for one in sizes for many in sizes if one * many <= self.cores + 1]

    @property
    def preferred(self) -> list[tuple[int, ...]]:
        """The preferred batch sizes."""
        return [(), *((size,) for size in PREFERRED if size <= self.max_batch_size)]

    def __len__(self) -> int:
        return len(self.variants) * len(self.copies) * len(DELAYS) * len(self.preferred) * 2

    def __iter__(self) -> Iterator[Candidate]:
        axes = itertools.product(self.variants, self.copies, DELAYS, self.preferred, (True, False))
        for variant, (instances, threads), delay, preferred, arena in axes:
            yield Candidate(variant, instances, threads, delay, preferred, arena)

    def coarse(self) -> list[Candidate]:
        """Return the start, then every variant with every number of copies, those that fill the cores before others."""
        copies = sorted(self.copies, key=lambda copies: abs(copies[0] * copies[1] - self.cores))
        axes = itertools.product(COARSE_DELAYS, copies, self.variants)
        points = [Candidate(variant, *copies, delay) for delay, copies, variant in axes]
        return list(dict.fromkeys([self.start, *points]))

    def neighbours(self, point: Candidate) -> list[Candidate]:
        """Return the points one step along one axis away; instances and threads may also change places."""
        moved = [replace(point, delay_microseconds=delay) for delay in _beside(DELAYS, point.delay_microseconds)]
        moved += [replace(point, arena=not point.arena)]
        moved += [replace(point, preferred=sizes) for sizes in _beside(self.preferred, point.preferred)]
        moved += [replace(point, instances=one, threads=many) for one, many in self._copies_beside(point)]
        return moved + [replace(point, variant=variant) for variant in self.variants if variant != point.variant]

    def drawn(self, count: int, seed: int = 0) -> list[Candidate]:
        """Return points drawn at random, no two alike."""
        points = list(self)
        return random.Random(seed).sample(points, min(count, len(points)))  # noqa: S311  no secret

    def _sizes(self) -> list[int]:
        powers = (2**power for power in range(self.cores.bit_length()))
        return sorted({*powers, self.cores, self.cores + 1})

    def _copies_beside(self, point: Candidate) -> list[tuple[int, int]]:
        one, many = point.instances, point.threads
        steps = [(size, many) for size in _beside(self._sizes(), one)]
        steps += [(one, size) for size in _beside(self._sizes(), many)]
        steps += [(many, one)] if one != many else []
        return [copies for copies in dict.fromkeys(steps) if copies in self.copies]


def _beside(axis: Sequence[Any], value: Any) -> list[Any]:
    """Return the values next to one on an axis; on both sides of one that lies between two."""
    below, above = [item for item in axis if item < value], [item for item in axis if item > value]
    return [*below[-1:], *above[:1]]
