"""Cancel long work between its steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class Cancelled(BaseException):
    """Raised in work that was cancelled, to end it.

    It is no `Exception`, so that code which catches any `Exception` of a step does not go on after it.
    """


_should_stop: ContextVar[Callable[[], bool] | None] = ContextVar("should_stop", default=None)


@contextmanager
def stop_when(should_stop: Callable[[], bool]) -> Iterator[None]:
    """Cancel calls made within this context, in this thread, soon after `should_stop()` is true."""
    token = _should_stop.set(should_stop)
    try:
        yield
    finally:
        _should_stop.reset(token)


def check() -> None:
    """Raise `Cancelled` if the work was cancelled; called between two steps.

    Raises:
        Cancelled: it was; only within `stop_when`.
    """
    should_stop = _should_stop.get()
    if should_stop is not None and should_stop():
        raise Cancelled
