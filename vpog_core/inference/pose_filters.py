"""Filter the poses of tracked objects, each object's by a filter of its own."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from vpog_core.geometry import pose_filter
from vpog_core.geometry.pose_filter import FilterState
from vpog_core.geometry.se3 import at_point
from vpog_core.inference.tracks import Key
from vpog_core.objects.library import ObjectLibrary
from vpog_core.types import PoseEstimate


class PoseFilters:
    """Filters the poses of all objects from image to image; see `geometry.pose_filter`.

    Poses are filtered as those of the objects' middles: an object that spins moves an origin outside of it on
    a circle, which a constant velocity does not describe.

    Args:
        library: knows the objects' meshes and symmetries.
        max_gap: seconds without a pose after which an object's filter is reset.
    """

    def __init__(self, library: ObjectLibrary, max_gap: float = 1.0) -> None:
        self.max_gap = max_gap
        self._library = library
        self._states: dict[Key, tuple[FilterState, int]] = {}
        """The state of each object, and the number of the image that it is of."""
        self._frame = 0

    def filter(self, estimates: Sequence[PoseEstimate], time: float) -> list[PoseEstimate]:
        """Filter the poses of an image; estimates without a pose stay as they are.

        Args:
            time: of the image, seconds; one that is not later than the last resets all filters.
        """
        self._frame += 1
        filtered = [e if e.T_cam_obj is None else self._filtered(e, time) for e in estimates]
        self._states = {
            key: (state, frame)
            for key, (state, frame) in self._states.items()
            if self._is_recent(state, frame, time)
        }
        return filtered

    def use(self, library: ObjectLibrary, changed: Collection[str]) -> None:
        """Replace the library; the states of objects that have changed are dropped."""
        self._library = library
        self._states = {key: state for key, state in self._states.items() if key[0] not in changed}

    def reset(self) -> None:
        """Drop all states."""
        self._states.clear()

    def _filtered(self, estimate: PoseEstimate, time: float) -> PoseEstimate:
        key = (estimate.class_id, estimate.instance)
        middle = self._library.mesh(estimate.class_id).center
        measured = (*at_point(estimate.T_cam_obj, estimate.covariance, middle), time)
        state, frame = self._states.get(key, (None, 0))
        if state is not None and self._is_recent(state, frame, time) and time >= state.time:
            # An image that comes a second time, with other detections, tells nothing new.
            if time > state.time:
                symmetry = self._library.symmetry(estimate.class_id).about(middle)
                state = pose_filter.update(state, *measured, symmetry)
        else:
            state = pose_filter.start(*measured)
        self._states[key] = state, self._frame
        T_cam_obj, covariance = at_point(state.T, state.covariance, -middle)
        return replace(estimate, T_cam_obj=T_cam_obj, covariance=covariance)

    def _is_recent(self, state: FilterState, frame: int, time: float) -> bool:
        """Tell whether a state may be used for an image that was taken at a time.

        Infrequent images are not a gap: the state of the last image is used however old it is.
        """
        return time - state.time <= self.max_gap or frame >= self._frame - 1
