"""Offer the services ~/add_object, ~/list_objects and ~/reload_objects."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
from geometry_msgs.msg import Point, Vector3
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from std_srvs.srv import Trigger

from vpog_core.geometry.symmetry import Symmetry
from vpog_core.objects.added_object import AddedObject, check_mesh
from vpog_core.types import VPOGError
from vpog_ros.msg import ObjectInfo
from vpog_ros.objects.manager import ObjectManager
from vpog_ros.srv import AddObject, ListObjects

NOT_CONFIGURED = "The node is not configured, so it has no objects yet: configure it first."


class ObjectServices:
    """Handles the calls of the services; the current `ObjectManager` does the work.

    Args:
        node: the node that has the services.
        manager: gives the manager, or None while the node is not configured.
    """

    def __init__(self, node, manager: Callable[[], ObjectManager | None]) -> None:
        self._manager = manager
        # One call at a time, parallel to all other callbacks: reading a mesh takes a moment.
        group = MutuallyExclusiveCallbackGroup()
        for kind, name, callback in (
            (AddObject, "~/add_object", self._add),
            (ListObjects, "~/list_objects", self._list),
            (Trigger, "~/reload_objects", self._reload),
        ):
            node.create_service(kind, name, callback, callback_group=group)

    def _add(self, request: AddObject.Request, response: AddObject.Response) -> AddObject.Response:
        try:
            added = self._added(request)
            response.message = " ".join([
                f"'{added.name}' is added, {added.diameter:.3g} m across, and is being onboarded: "
                "~/list_objects tells when it is ready.",
                *added.notes,
            ])  # fmt: skip
            response.success = True
        except VPOGError as error:
            response.message = str(error)
        return response

    def _added(self, request: AddObject.Request) -> AddedObject:
        """Add an object to the folder and begin to onboard it."""
        manager = self._configured()
        folder, data = manager.store.library.folder, request.data.tobytes()
        added = check_mesh(folder, request.name, request.mesh, data, request.unit, request.symmetry)
        added.write()
        manager.renew()
        manager.onboard([added.name])
        return added

    def _reload(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        try:
            manager = self._configured()
            manager.renew()
            response.message = (
                f"'{manager.store.library.folder}' is being read again: /diagnostics and ~/list_objects tell "
                "how far it is."
            )
            response.success = True
        except VPOGError as error:
            response.message = str(error)
        return response

    def _list(self, request: ListObjects.Request, response: ListObjects.Response) -> ListObjects.Response:
        manager = self._manager()
        if manager is not None:
            store, waiting = manager.store, set(manager.waiting())
            response.objects = [_info(store, name, waiting) for name in store.library.ids]
        return response

    def _configured(self) -> ObjectManager:
        manager = self._manager()
        if manager is None:
            raise VPOGError(NOT_CONFIGURED)
        return manager


def _info(store, object_id: str, waiting: set[str]) -> ObjectInfo:
    entry = store.library.entries[object_id]
    info = ObjectInfo(name=object_id, aliases=list(entry.aliases), symmetry=symmetry_json(entry.symmetry))
    info.reason = store.left_out.get(object_id, store.outdated.get(object_id, ""))
    if object_id in store.left_out:
        info.state = ObjectInfo.LEFT_OUT
    elif object_id in waiting:
        info.state = ObjectInfo.ONBOARDING
    elif store.is_open(object_id):
        info.state = ObjectInfo.READY
        info.diameter = store.get(object_id).templates.diameter
        mesh = store.library.mesh(object_id)
        info.center = Point(**dict(zip("xyz", mesh.center.tolist(), strict=True)))
        info.size = Vector3(**dict(zip("xyz", np.ptp(mesh.bounds, axis=0).tolist(), strict=True)))
    else:
        info.state = ObjectInfo.CACHED if store.is_cached(object_id) else ObjectInfo.NOT_ONBOARDED
    return info


def symmetry_json(symmetry: Symmetry) -> str:
    """Write symmetries, less the identity, with the keys of BOP's models_info.json, lengths in metres."""
    values = {}
    if len(symmetry.discrete) > 1:
        values["symmetries_discrete"] = [T.ravel().tolist() for T in symmetry.discrete[1:]]
    if symmetry.continuous:
        values["symmetries_continuous"] = [
            {"axis": axis.tolist(), "offset": offset.tolist()} for axis, offset in symmetry.continuous
        ]
    return json.dumps(values)
