"""What happens to a version after it was published: it becomes production, goes back, is compared, is removed.

::

    change.py   promote, roll back, retire
    status.py   what lies in the repository, and whether it is whole
    served.py   whether a server serves what the repository says
    diff.py     what differs between two versions
"""

from pipeline.release.change import promote, retire, rollback
from pipeline.release.diff import Difference, diff
from pipeline.release.status import ModelStatus, status

__all__ = ["Difference", "ModelStatus", "diff", "promote", "retire", "rollback", "status"]
