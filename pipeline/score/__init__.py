"""Files far larger than memory to the same files with predictions, each row once, whatever kills it meanwhile.

::

    stage.py        `score`: plan or go on, let an engine score the shards, put the files together
    model.py        which verified bytes answer, and what classes they know
    inputs.py       paths and folders to files, and whether these are still what they were
    formats/        one file format each: where it may be cut, its rows, and how answers are joined to them
    operator.py     texts to answers: sorted by length, in batches bounded by rows × bytes
    shard.py        a shard to its part, which is there whole or not at all; what every engine runs
    local.py        engine: processes of this machine
    on_ray.py       engine: Ray Data, on this machine or a cluster
    ledger.py       what was asked, which shards are done, and the files out of their parts

A *shard* is a range of one file's rows; a *window* as many of them as are sorted by length together; a *part* what a
shard becomes.
"""

from pipeline.score.stage import Record, score

__all__ = ["Record", "score"]
