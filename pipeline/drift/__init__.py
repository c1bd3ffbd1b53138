"""The drift stage: how the requests of production differ from the data that a model was trained on.

::

    requests.py     request logs to `Request`s: a stream of lines, of which damaged ones are counted
    answering.py    rows without a log, and held-out rows, to `Request`s: the run's own model is asked
    tally.py        `Request`s to counts, a block at a time; nothing grows with their number
    distance.py     two distributions to a number: population stability index, Kolmogorov–Smirnov, and their noise
    measures.py     what is expected, what was found, and what is judged
    windows.py      periods of time, or numbers of requests
    stage.py        a run and its requests to ``drift.json``

Each measure has the reference that it can be held against:

========== ============================ ===============================================================================
length     training split               what was learned from, and a length is nothing that could be learned by heart
unknown    validation and test split    the vocabulary was made of the training texts, and knows them too well
confidence answers to both              of training rows the model is surer than of any others
label      answers to both              what the model says, faults included, as requests have no true labels
invalid    none at all                  a data set holds no invalid row
========== ============================ ===============================================================================

What chance does is computed for requests that are independent of each other. A caller who sends one text a thousand
times is no chance: that is a change of the requests, and is called so.
"""

from pipeline.drift.measures import Limits
from pipeline.drift.stage import drift

__all__ = ["Limits", "drift"]
