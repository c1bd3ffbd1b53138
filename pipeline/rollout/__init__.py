"""The rollout stage: a candidate in, that candidate in production on a running server out; or everything as it was.

::

    stage.py    one rollout of a model at a time, from the first look to the record
    attempt.py  the steps forward, and the way back
    live.py     one running server: told what to load, asked whether it answers as it must
    shadow.py   production and candidate side by side
    record.py   ``NAME/rollout.json``
"""

from pipeline.rollout.live import Live
from pipeline.rollout.record import Record, RollingBack, Step
from pipeline.rollout.shadow import Trial
from pipeline.rollout.stage import Event, rollout

__all__ = ["Event", "Live", "Record", "RollingBack", "Step", "Trial", "rollout"]
