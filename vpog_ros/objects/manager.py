"""Onboard objects that are added or changed while the node runs, and replace them between frames."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from vpog_core.cancellation import Cancelled, stop_when
from vpog_core.objects.library import ObjectLibrary
from vpog_ros.errors import error_log, error_sentence
from vpog_ros.estimator_loading import log_notes

ASKED = "'{}' is being onboarded, which takes some time once: its poses come after that."


class ObjectManager:
    """Onboards objects in a thread, from configure to cleanup.

    A single thread reads the objects folder again and onboards objects, one after the other. A library that
    was read again is exchanged for the old one by `exchange`, which the worker calls between two frames.

    Args:
        estimator: of which the objects are.
        on_change: called, in any thread, when an object is ready or left out, or the library is new.
        logger: of the node.
        when_asked: objects are onboarded when they are first requested, and not as soon as they are known.
    """

    def __init__(self, estimator, on_change: Callable[[], None], logger, when_asked: bool = False) -> None:
        self._estimator, self._on_change, self._logger = estimator, on_change, logger
        self._when_asked = when_asked
        self._lock = threading.Lock()
        self._wanted: deque[str] = deque()
        self._library: ObjectLibrary | None = None
        self._exchange: tuple[object, set[str]] | None = None
        self._work = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.activity = ""
        """Current activity in words, or ""."""
        self.last_error = ""
        """Reason why the folder could not be read when that was last tried, or ""."""
        self.hints: dict[str, str] = {}
        """Sentences for /diagnostics on objects that were onboarded here."""
        self.outdated: list[str] = []
        """Sentences on the objects whose new mesh cannot be used, and that go on with the old one."""

    @property
    def store(self):
        """Return the newest objects: those that the estimator has, or will have after the exchange."""
        waiting = self._exchange
        return self._estimator.objects if waiting is None else waiting[0]

    def why_not(self, object_id: str) -> str:
        """Return why an object cannot be estimated now, or ""; if it was never onboarded, schedule that."""
        store = self._estimator.objects
        if object_id in store.left_out:
            return store.left_out[object_id]
        if store.is_open(object_id) or store.is_cached(object_id):
            return ""
        self.onboard([object_id], next_one=True)
        return ASKED.format(object_id)

    def onboard(self, object_ids: list[str], next_one: bool = False) -> None:
        """Onboard objects in the background, those that are not already waiting for it.

        Args:
            next_one: before the others that wait.
        """
        with self._lock:
            self._wanted.extend(name for name in object_ids if name not in self._wanted)
            if next_one:
                # Keep the first, which is being onboarded.
                wanted_first = [name for name in list(self._wanted)[1:] if name in object_ids]
                others = [name for name in list(self._wanted)[1:] if name not in object_ids]
                self._wanted = deque([*list(self._wanted)[:1], *wanted_first, *others])
        self._begin()

    def renew(self) -> None:
        """Read the objects folder again in the background, and onboard what is new or has changed.

        Raises:
            VPOGError: the folder or its settings cannot be read; nothing has changed.
        """
        old = self.store.library
        library = ObjectLibrary(old.folder, old.cache_dir, old.unit)
        with self._lock:
            self._library = library
        self._begin()

    def waiting(self) -> list[str]:
        """Return the names of the objects that are being onboarded or wait for it."""
        with self._lock:
            return list(self._wanted)

    def exchange(self) -> set[str] | None:
        """Replace the estimator's objects by those that were read again; called between two frames.

        Returns:
            the names of the objects whose mesh is another now or gone; None where nothing was read.
        """
        with self._lock:
            waiting, self._exchange = self._exchange, None
            if waiting is None:
                return None
            self._estimator.objects = waiting[0]
        self._on_change()
        return waiting[1]

    def stop(self) -> None:
        """Cancel what is under way, at its next step."""
        self._stop.set()
        self._work.set()

    def _begin(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="onboarding", daemon=True)
                self._thread.start()
        self._work.set()

    def _run(self) -> None:
        with stop_when(self._stop.is_set):
            while not self._stop.is_set():
                self._work.wait()
                self._work.clear()
                try:
                    while self._step():
                        self._on_change()
                except Cancelled:
                    return
                except Exception as error:
                    self._fail(error)
                finally:
                    self.activity = ""

    def _step(self) -> bool:
        """Run one pending task, and return whether there was one."""
        with self._lock:
            library, self._library = self._library, None
            wanted = self._wanted[0] if self._wanted else None
        if library is not None:
            self._read(library)
            return True
        if wanted is None:
            return False
        store = self.store
        if wanted in store.library.entries:
            self._report(store, wanted, store.onboard_or_leave_out(wanted, self._show_progress))
        if store is self.store:  # Otherwise it is onboarded again from the library that was read meanwhile.
            with self._lock:
                self._wanted.remove(wanted)
        return True

    def _report(self, store, name: str, sentence: str) -> None:
        """Log that an object is ready, or the sentence that says why it is left out, and how many wait."""
        others = len(self.waiting()) - 1
        more = f", {others} more to come" if others > 0 else ""
        if sentence:
            self._logger.error(f"'{name}' is left out{more}. {sentence}")
            return
        self._logger.info(f"'{name}' is ready{more}.")
        self.hints = self.hints | log_notes(store.library, name, self._logger)

    def _read(self, library: ObjectLibrary) -> None:
        self.activity = "reading the objects again"
        with self._lock:
            before = self._exchange
        store, changed = self.store.renewed(library)
        new = [] if self._when_asked else list(library.ids)
        new = [name for name in new if not (store.is_open(name) or store.is_cached(name))]
        with self._lock:
            changed |= before[1] if before else set()
            self._exchange = (store, changed)
            self._wanted.extend(name for name in new if name not in self._wanted)
        self.outdated = list(store.outdated.values())
        for sentence in self.outdated:
            self._logger.warning(sentence)
        self.last_error = ""
        summary = f"{len(library.ids)} objects, {len(new)} to onboard, {len(changed)} changed or gone"
        self._logger.info(f"The objects folder was read again: {summary}.")

    def _show_progress(self, done: int, total: int, name: str) -> None:
        self.activity = f"onboarding {name}: {done} of {total}"

    def _fail(self, error: Exception) -> None:
        self.last_error = f"The objects could not be read again. {error_sentence(error)}"
        self._logger.error(f"The objects could not be read again. {error_log(error)}")
