"""Ask a served model, again and again, what it was verified to answer, and show what it says as Prometheus metrics.

::

    probe.py        one round of questions after another, each through a new connection
    certificate.py  until when the server's certificate is good
    exposition.py   the rounds as metrics
"""

from pipeline.watch.exposition import Exposition
from pipeline.watch.probe import Round, watch

__all__ = ["Exposition", "Round", "watch"]
