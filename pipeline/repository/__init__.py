"""The model repository on disk: what lies in it, how it changes, and what Triton reads of it.

::

    scan.py         models and their versions, as they lie there
    transaction.py  a change is wholly there or not at all
    aliases.py      which version is production, and which the candidate
    history.py      what they were before
    version.py      one version: its manifest, its bytes, its answers
    goldens.py      the verified answers that a version carries
    config.py       ``config.pbtxt``, through Triton's protobufs
    patch.py        what of it may be tuned
"""

from pipeline.repository.scan import ModelOnDisk, scan, versions_of

__all__ = ["ModelOnDisk", "scan", "versions_of"]
