"""Answer requests for poses: the action ~/estimate and the service ~/estimate_once."""
