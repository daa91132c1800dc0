"""Keep the onboarded objects of a library: rendered, described by a network and cached."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch

from vpog_core import cancellation
from vpog_core.inference.failures import Failures
from vpog_core.inference.onboarding import DESCRIPTOR_FORMAT, OnboardedObject, describe_templates
from vpog_core.models.vpog_model import VPOGModel
from vpog_core.objects.library import ObjectLibrary
from vpog_core.objects.recent_renders import RecentRenders
from vpog_core.objects.renderer import Renderer
from vpog_core.objects.template_set import TemplateSet, features_key_of
from vpog_core.types import VPOGError
from vpog_core.utils.held_file import one_at_a_time

_LOG = logging.getLogger(__name__)

Progress = Callable[[int, int, str], None]
"""Called with (steps done, steps, which object and what is done with it)."""
MAX_OPENED_AT_START = 16
"""In libraries of more objects, cached objects are opened on first use."""


class ObjectStore:
    """Holds onboarded objects; onboards them when they are first needed, or all of them at once.

    Args:
        model: the network, on its device.
        library: the objects.
        key: tells these weights from others in the cache.
        failures: turns errors into reasons.

    Attributes:
        left_out: objects that were found to be unusable, each with the sentence that says why.
        outdated: objects that keep their earlier mesh, each with the sentence that says why the one in
            its file cannot be used.
    """

    def __init__(self, model: VPOGModel, library: ObjectLibrary, key: str, failures: Failures) -> None:
        self.model, self.library, self.key = model, library, key
        self.left_out: dict[str, str] = {}
        self.outdated: dict[str, str] = {}
        self._failures = failures
        self._objects: dict[str, OnboardedObject] = {}
        self._renderers: dict[str, Renderer] = {}
        self._recent_renders: dict[str, RecentRenders] = {}

    def onboard_all(self, progress: Progress | None = None, strict: bool = False) -> dict[str, str]:
        """Onboard all objects; those that cannot be used are left out and returned with the reasons.

        All meshes are read first, so that a broken one is known before minutes of work. In a library of many
        objects those in the cache are left closed until their first use: neither mesh nor templates are
        read, as the files of the mesh have not changed since it was found usable.

        Raises:
            VPOGError: no object can be used; with `strict`, one of them cannot.
        """
        opened = self.read_meshes(strict, progress)
        for number, object_id in enumerate(opened, start=1):
            if self.onboard_or_leave_out(object_id, _numbered(progress, number, len(opened))):
                self._refuse(strict)
        return dict(self.left_out)

    def read_meshes(self, strict: bool, progress: Progress | None = None) -> list[str]:
        """Read the meshes of all objects but those left closed; returns the names of those that can be used.

        Raises:
            VPOGError: as `onboard_all`.
        """
        closed = self._left_closed()
        opened = [object_id for object_id in self.library.ids if object_id not in closed]
        many = len(opened) > MAX_OPENED_AT_START
        self.left_out = self.library.broken(opened, _step(progress, "meshes (reading)") if many else None)
        self._refuse(strict)
        return [object_id for object_id in opened if object_id not in self.left_out]

    def warn_if_useless(self) -> None:
        """Log one sentence where no mesh can be used; meshes are read until one can, or is in the cache."""
        for object_id in self.library.ids:
            if self.is_cached(object_id) or not self.library.broken([object_id]):
                return
        first, *others = self.library.broken([]).values()
        more = f"; {len(others)} more of '{self.library.folder}' cannot be used either" if others else ""
        _LOG.warning("No object can be used: %s%s.", first.rstrip("."), more)

    def check(self, strict: bool) -> None:
        """Read all meshes if `strict`, and raise if one cannot be used; nothing is onboarded.

        Raises:
            VPOGError: with `strict`, one of the objects cannot be used.
        """
        if strict:
            self.left_out = self.library.broken()
            self._refuse(strict)

    def to_onboard(self) -> list[str]:
        """Return the objects that are not in memory, less those left out and those that stay in the cache."""
        closed = self._left_closed() | self.left_out.keys()
        return [name for name in self.library.ids if name not in closed and not self.is_open(name)]

    def open_cached(self, seconds: float, progress: Progress | None = None) -> None:
        """Open objects that are in the cache, and begin no more of them after some seconds.

        Raises:
            VPOGError: no object of the library can be used.
        """
        deadline = time.monotonic() + seconds
        for object_id in self.to_onboard():
            if time.monotonic() >= deadline:
                break
            if self.is_cached(object_id):
                self.onboard_or_leave_out(object_id, progress)
        self._refuse(strict=False)

    def get(self, class_id: str, progress: Progress | None = None) -> OnboardedObject:
        """Return an object ready for matching; it is onboarded now if it was not yet.

        Raises:
            VPOGError: unknown object, unreadable mesh, wrong unit, or one that was left out.
        """
        object_id = self.library.resolve(class_id)
        if object_id in self.left_out:
            raise VPOGError(self.left_out[object_id])
        if object_id not in self._objects:
            # Templates may lie in the cache of a mesh that cannot be read; poses are refined with the mesh.
            self.library.mesh(object_id)
            with self._one_process_at_a_time(object_id, progress):
                rendered = _step(progress, f"{object_id} (rendering views)")
                templates = self.library.templates(object_id, self.model.config.image_size, rendered)
                descriptors = self._descriptors(templates, progress)
            self._objects[object_id] = OnboardedObject(templates, self.model, descriptors)
        return self._objects[object_id]

    def clear_clusters(self) -> None:
        """Drop the encodings of all objects' clusters, which are made again when they are needed."""
        for onboarded in list(self._objects.values()):
            onboarded.clear_clusters()

    def is_open(self, object_id: str) -> bool:
        """Tell whether an object's templates are in memory."""
        return object_id in self._objects

    def is_cached(self, object_id: str) -> bool:
        """Tell whether an object is in the cache, described by these weights and with its present mesh."""
        path = self.library.cached_templates(object_id, self.model.config.image_size)
        return path is not None and features_key_of(path) == self._features_key()

    def onboard_or_leave_out(self, object_id: str, progress: Progress | None = None) -> str:
        """Onboard an object; returns "", or the sentence that says why it cannot be used and is left out."""
        try:
            self.get(object_id, progress)
        except Exception as error:
            self.left_out[object_id] = self._failures.reason(f"Onboarding '{object_id}'", error)
        return self.left_out.get(object_id, "")

    def renewed(self, library: ObjectLibrary) -> tuple[ObjectStore, set[str]]:
        """Make a store of a library that was read again from the same folder; this store does not change.

        Objects whose files have not changed are taken as they are; so are those whose mesh cannot be used any
        more, see `outdated`. What is new or has changed is not onboarded yet.

        Returns:
            the store, and the names of the objects of this one that have changed or are gone.
        """
        store = ObjectStore(self.model, library, self.key, self._failures)
        changed = set(self.library.ids) - set(library.ids)
        for object_id, onboarded in list(self._objects.items()):
            cancellation.check()
            if not library.take_over(self.library, object_id, self.model.config.image_size):
                changed.add(object_id)
                continue
            store._objects[object_id] = onboarded
            if object_id in self._renderers:
                store._renderers[object_id] = self._renderers[object_id]
        store.outdated = library.outdated()
        return store, changed

    def renderer(self, target: OnboardedObject) -> Renderer:
        """Return the renderer of an onboarded object's mesh, made when it is first needed."""
        object_id = target.templates.object_id
        if object_id not in self._renderers:
            self._renderers[object_id] = Renderer(self.library.mesh(object_id))
        return self._renderers[object_id]

    def recent_renders(self, target: OnboardedObject) -> RecentRenders:
        """Return what renders an onboarded object's mesh where it is tracked."""
        object_id = target.templates.object_id
        if object_id not in self._recent_renders:
            self._recent_renders[object_id] = RecentRenders(self.renderer(target))
        return self._recent_renders[object_id]

    def _left_closed(self) -> set[str]:
        """Return the objects that are opened on first use, because there are too many to open all."""
        if len(self.library.ids) <= MAX_OPENED_AT_START:
            return set()
        return {object_id for object_id in self.library.ids if self.is_cached(object_id)}

    def _one_process_at_a_time(self, object_id: str, progress: Progress | None) -> AbstractContextManager:
        """Lock an object, so that one process makes it while others with the same cache wait for it."""
        if self.is_cached(object_id):
            return nullcontext()
        waiting = _step(progress, f"{object_id} (another process does it)")
        return one_at_a_time(self.library.entries[object_id].mesh, lambda: waiting and waiting(0, 1))

    def _features_key(self) -> str:
        """Return the name that the features of these weights have in the cache."""
        return f"{self.key}-{DESCRIPTOR_FORMAT}"

    def _refuse(self, strict: bool) -> None:
        """Raise a VPOGError if no object is usable, or, with `strict`, if one is not."""
        if not self.left_out or not (strict or len(self.left_out) == len(self.library.ids)):
            return
        if len(self.left_out) == 1:
            raise VPOGError(*self.left_out.values())
        sentences = " ".join(self.left_out.values())
        raise VPOGError(
            f"{len(self.left_out)} of {len(self.library.ids)} objects cannot be used. {sentences}"
        )

    def _descriptors(self, templates: TemplateSet, progress: Progress | None) -> torch.Tensor:
        """Return the retrieval descriptors of the templates: from the cache of these weights, or made now."""
        key = self._features_key()
        if templates.features_key != key:
            step = _step(progress, f"{templates.object_id} (describing views)")
            made = describe_templates(self.model, templates, step)
            templates.features = {"descriptors": made.half().cpu().numpy()}
            templates.features_key = key
            self.library.store(templates)
        device = self.model.mean.device
        return torch.from_numpy(templates.features["descriptors"]).to(device).float()


def _numbered(progress: Progress | None, number: int, count: int) -> Progress | None:
    """Return a progress callback for one object of several."""
    if progress is None or count < 2:
        return progress
    return lambda done, total, name: progress(done, total, f"{name}, object {number} of {count}")


def _step(progress: Progress | None, name: str) -> Callable[[int, int], None] | None:
    """Return a progress callback for one step of an object."""
    return None if progress is None else lambda done, total: progress(done, total, name)
