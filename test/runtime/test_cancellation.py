import threading

import pytest

from vpog_core import cancellation
from vpog_core.cancellation import Cancelled, stop_when


def test_work_ends_when_it_is_told_to_and_only_within():
    told = threading.Event()
    cancellation.check()
    with stop_when(told.is_set):
        cancellation.check()
        told.set()
        with pytest.raises(Cancelled):
            cancellation.check()
    cancellation.check()


def test_what_forgives_errors_does_not_go_on():
    def forgiving() -> None:
        try:
            cancellation.check()
        except Exception:
            return

    with stop_when(lambda: True), pytest.raises(Cancelled):
        forgiving()


def test_other_threads_go_on():
    ended = []

    def work() -> None:
        cancellation.check()
        ended.append(True)

    with stop_when(lambda: True):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert ended
