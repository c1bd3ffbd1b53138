"""Search how a verified run is served best on this machine, within a latency and a memory bound.

::

    space.py        which configurations there are
    search.py       which of them to try next; pure
    study.py        every trial in a file, so that a search can be gone on with
    served.py       a candidate published, served, its answers checked
    trial.py        one under load
    comparison.py   several side by side
    staircase.py    from short rounds to the rate; pure
    record.py       what it came to
    page.py         the same as a page
    stage.py        `tune`

Triton's response cache is not among what is searched: its key leaves out which outputs are asked for, so that a caller
who asks for the label alone would leave a later one without probabilities; and how much it answers depends on how often
texts come again, which texts drawn from a file do not show.
"""

from pipeline.tune.record import Tuned
from pipeline.tune.served import Bounds
from pipeline.tune.stage import tune
from pipeline.tune.study import Trial

__all__ = ["Bounds", "Trial", "Tuned", "tune"]
