"""Test objects that change while the node runs: they are exchanged when the worker says so."""

from __future__ import annotations

import shutil
import threading
from types import SimpleNamespace

import pytest

pytest.importorskip("rclpy")

from vpog_core.inference.estimator import PoseEstimator
from vpog_core.objects.mesh import save_mesh
from vpog_core.synthetic.objects import make_object
from vpog_core.types import VPOGError
from vpog_ros.objects.manager import ObjectManager

BOUND_S = 60.0


class Managed:
    """Holds a manager of a folder's objects, and what it reports."""

    def __init__(self, untrained, folder, when_asked: bool) -> None:
        # What is to be onboarded in the test has a cache of its own; else one object is onboarded once.
        cache = folder / "cache" if when_asked else untrained.cache_dir
        self.estimator = PoseEstimator(folder, untrained.weights, device="cpu", cache_dir=cache)
        self.said: list[str] = []
        self._changed = threading.Condition()
        logger = SimpleNamespace(info=self.said.append, warning=self.said.append, error=self.said.append)
        self.manager = ObjectManager(self.estimator, self._on_change, logger, when_asked)

    def _on_change(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def wait_until(self, condition) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, BOUND_S)


@pytest.fixture
def managed(untrained, tmp_path):
    made = []

    def manage(when_asked: bool = False) -> Managed:
        folder = shutil.copytree(untrained.objects_dir, tmp_path / "objects")
        made.append(Managed(untrained, folder, when_asked))
        return made[-1]

    yield manage
    for item in made:
        item.manager.stop()


def test_an_object_is_onboarded_when_it_is_asked_for(managed):
    it = managed(when_asked=True)
    assert "'carton' is being onboarded" in it.manager.why_not("carton")
    it.wait_until(lambda: not it.manager.waiting())
    assert it.manager.why_not("carton") == ""
    assert it.said == ["'carton' is ready."]


def test_in_the_background_what_is_asked_for_comes_next(managed, monkeypatch):
    it = managed(when_asked=True)
    folder = it.estimator.library.folder
    for name in ("jar", "pot", "tin"):
        shutil.copy(folder / "carton.ply", folder / f"{name}.ply")
    it.manager.renew()
    it.wait_until(lambda: it.manager.exchange() is not None)
    store, begun = it.estimator.objects, threading.Event()
    onboard = store.onboard_or_leave_out
    monkeypatch.setattr(store, "onboard_or_leave_out", lambda *a: begun.wait(BOUND_S) and onboard(*a))
    assert store.to_onboard() == ["carton", "jar", "pot", "tin"]
    it.manager.onboard(store.to_onboard())
    assert "'pot' is being onboarded" in it.manager.why_not("pot")
    assert it.manager.waiting() == ["carton", "pot", "jar", "tin"]
    begun.set()
    it.wait_until(lambda: not it.manager.waiting())
    assert store.to_onboard() == []
    ready = [line for line in it.said if "is ready" in line]
    assert ready == [
        "'carton' is ready, 3 more to come.",
        "'pot' is ready, 2 more to come.",
        "'jar' is ready, 1 more to come.",
        "'tin' is ready.",
    ]


def test_old_and_new_are_exchanged_at_once_and_when_they_are_told_to(managed):
    it = managed()
    it.estimator.onboard()
    old, folder = it.estimator.objects, it.estimator.library.folder
    save_mesh(make_object(900_034, vertices=300), folder / "carton.ply")
    shutil.copy(folder / "carton.ply", folder / "pot.ply")
    it.manager.renew()
    it.wait_until(lambda: "pot" in it.manager.store.library.ids and not it.manager.waiting())
    # Everything is ready, and a frame in work still has the objects that it began with.
    assert it.estimator.objects is old
    assert it.estimator.object_ids == ["carton"]
    assert it.manager.exchange() == {"carton"}
    assert it.manager.exchange() is None
    assert it.estimator.object_ids == ["carton", "pot"]
    assert it.estimator.onboarded("carton") is not old.get("carton")
    assert [it.manager.why_not(name) for name in ("carton", "pot")] == ["", ""]


def test_a_folder_read_twice_before_the_exchange_forgets_nothing(managed):
    it = managed()
    it.estimator.onboard()
    path = it.estimator.library.folder / "carton.ply"
    first = it.manager.store
    for seed in (900_034, 900_035):
        save_mesh(make_object(seed, vertices=300), path)
        before = it.manager.store
        it.manager.renew()
        it.wait_until(lambda before=before: it.manager.store is not before and not it.manager.waiting())
    assert it.estimator.objects is first
    assert it.manager.exchange() == {"carton"}


def test_what_cannot_be_read_is_told_and_changes_nothing(managed):
    it = managed()
    it.estimator.onboard()
    (it.estimator.library.folder / "objects.yaml").write_text("objects: [")
    with pytest.raises(VPOGError, match="is not valid YAML"):
        it.manager.renew()
    assert it.manager.exchange() is None


def test_a_new_mesh_that_is_broken_leaves_the_others_ready(managed):
    it = managed()
    it.estimator.onboard()
    folder = it.estimator.library.folder
    (folder / "cut.ply").write_bytes((folder / "carton.ply").read_bytes()[:300])
    it.manager.renew()
    it.wait_until(lambda: it.manager.store is not it.estimator.objects and not it.manager.waiting())
    assert it.manager.exchange() == set()
    assert "cut.ply" in it.manager.why_not("cut")
    assert it.manager.why_not("carton") == ""
    assert any(line.startswith("'cut' is left out. The mesh") for line in it.said)
