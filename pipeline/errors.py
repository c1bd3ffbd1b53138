"""Every error that a user can cause, and the exit code that each one carries.

::

    PipelineError            1   could not do it
    ├── DataError            1   the data cannot be read, or cannot be learned from
    ├── RunError             1   a run directory, or a stage's file in it, is missing or damaged
    ├── RepositoryError      1   the model repository cannot take or give what was asked
    ├── ServerError          1   the server cannot be started, reached or kept alive
    │   └── RequestError     1   the server answered, and refused the request
    ├── UsageError           2   the question itself is wrong: an option, a recipe key, a name
    └── CheckFailed          3   it was checked, and it failed

What the user names and is not there, or is something else, is a UsageError; what is there and is damaged, unreadable or
too little is one of the first five.

A message says what, where, what was got, what was wanted and what to do next, in one or two lines. The
command line prints the message alone; a traceback means a bug of ours.
"""


class PipelineError(Exception):
    """Something could not be done, for a reason a user can understand and act on."""

    exit_code = 1


class DataError(PipelineError):
    """The data cannot be read, or nothing can be learned from it."""


class RunError(PipelineError):
    """A run directory, or a stage's file in it, is missing or damaged."""


class RepositoryError(PipelineError):
    """The model repository cannot take or give what was asked."""


class ServerError(PipelineError):
    """The server cannot be started, reached or kept alive."""


class RequestError(ServerError):
    """The server answered, and refused the request."""


class UsageError(PipelineError):
    """The question itself is wrong: an option, a recipe key, a name."""

    exit_code = 2


class CheckFailed(PipelineError):
    """A check was made, and it failed."""

    exit_code = 3
