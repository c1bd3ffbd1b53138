"""Signals that let a command end in its own way."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event as Flag


@contextmanager
def stop_on_signals(*more: signal.Signals) -> Iterator[Flag]:
    """Give a flag that Ctrl-C, SIGTERM or one of some more signals sets, for the length of a ``with`` block.

    One more that is ignored stays so: by SIGHUP, `nohup` says to outlive a terminal.
    """
    stop = Flag()
    numbers = (
        signal.SIGINT,
        signal.SIGTERM,
        *(number for number in more if signal.getsignal(number) != signal.SIG_IGN),
    )
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
