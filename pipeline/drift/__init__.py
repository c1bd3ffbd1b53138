"""The drift stage: how the requests of production differ from the data that a model was trained on.

::

    requests.py     request logs to `Request`s: a stream of lines, of which damaged ones are counted
    answering.py    rows without a log, and held-out rows, to `Request`s: the run's own model is asked
    tally.py        `Request`s to counts, a block at a time; nothing grows with their number
    distance.py     two distributions to a number: population stability index, Kolmogorov–Smirnov, and their noise
    measures.py     what is expected, what was found, and what is judged
    windows.py      periods of time, or numbers of requests
    stage.py        a run and its requests to ``drift.json``

Each measure has the reference that its numbers can be held against:

========== ============================ ===============================================================================
length     training split               what the model learned from; lengths cannot be learned by heart
unknown    validation and test split    the vocabulary was made of the training texts, and knows them too well
confidence answers to both              of training rows the model is surer than of any others
label      answers to both              its answers, and not the true labels, which no request has
invalid    none at all                  a data set holds no invalid row
========== ============================ ===============================================================================
"""

from pipeline.drift.measures import Limits
from pipeline.drift.stage import drift

__all__ = ["Limits", "drift"]
