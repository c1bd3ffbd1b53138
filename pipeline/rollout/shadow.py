"""Production and candidate side by side, over the rows of a file, before any caller meets the candidate."""

from collections.abc import Iterable
from dataclasses import dataclass
from threading import Event as Flag

from pipeline.client import Client, Comparison, Row, Split, StopRule
from pipeline.errors import CheckFailed, PipelineError
from pipeline.rollout.record import Figures

LOOK_ROWS = 100  # how often the candidate's pace is looked at


@dataclass(frozen=True)
class Trial:
    """What a candidate must show beside production.

    Attributes:
        rows: production is asked each of them, one at a time.
        share: the candidate answers this part of them in production's place, from 0 to 1; None for a shadow: it is
            asked all of them after production, and their labels are compared.
        max_differing: the part of the labels that may differ, above 0 and below 1.
        max_slowdown: how many times production's median time the candidate's may be.
    """

    rows: Iterable[Row]
    share: float | None = None
    max_differing: float = 0.05
    max_slowdown: float = 2.0

    def run(self, production: Client, candidate: Client, stop: Flag) -> Figures:
        """Ask both, and return what was seen; the clients are closed.

        Raises:
            CheckFailed: the candidate failed, differed or was slower more than it may be; as soon as that is sure.
            PipelineError: production did not answer, or `stop` was set.
        """
        rule = StopRule(disagreements=self.max_differing)
        share = 1.0 if self.share is None else self.share
        with Split(production, candidate, share=share, shadow=self.share is None, rule=rule) as split:
            for number, row in enumerate(self.rows, 1):
                if stop.is_set():
                    raise PipelineError("interrupted")
                split.classify([row])
                if split.stopped:
                    break
                if number % LOOK_ROWS == 0:
                    self._require_pace(split.comparison)
        return self._judge(split.comparison)

    def _judge(self, seen: Comparison) -> Figures:
        """Hold all that was seen against the limits; nothing more will be seen, so chance has no say."""
        if seen.stopped:
            raise CheckFailed(f"candidate: {seen.stopped}.")
        if not seen.requests:
            raise PipelineError("the candidate was asked nothing: give more rows, or a larger share of them.")
        if seen.failures:
            raise CheckFailed(f"candidate: failed {seen.failures:,} of {seen.requests:,} requests.")
        if seen.rows and not seen.disagreements / seen.rows <= self.max_differing:
            raise CheckFailed(
                f"candidate: {seen.disagreements:,} of {seen.rows:,} labels differ from production's; "
                f"{self.max_differing:.1%} may."
            )
        self._require_pace(seen)
        return _figures(seen)

    def _require_pace(self, seen: Comparison) -> None:
        if seen.production_ms and seen.candidate_ms:
            ours, theirs = seen.production_ms[0], seen.candidate_ms[0]
            if not theirs <= ours * self.max_slowdown:
                raise CheckFailed(
                    f"candidate: takes {theirs:.1f} ms, the median of {seen.requests:,}, where production takes "
                    f"{ours:.1f} ms; {self.max_slowdown:g} times that is allowed."
                )


def _figures(seen: Comparison) -> Figures:
    figures: Figures = {"requests": seen.requests, "rows": seen.rows, "disagreements": seen.disagreements}
    for name, times in (("production", seen.production_ms), ("candidate", seen.candidate_ms)):
        if times:
            figures |= {f"{name}_median_ms": times[0], f"{name}_p99_ms": times[1]}
    return figures
