"""The failures that callers need to tell apart. Everything else a user can cause is a `ValueError`."""


class DatasetError(Exception):
    """A data set is missing, incomplete or damaged. The message names the file or token and the remedy."""


class CalibrationError(Exception):
    """A camera matrix, extrinsic transform or ego pose is not usable (NaN, not rigid, wrong image size)."""


class StaleSensorError(Exception):
    """A sensor reading is older than the caller's limit and must not be used."""


class PlanningError(Exception):
    """A plan could not be made at all: no route, or limits that contradict each other."""


class ExportMismatchError(Exception):
    """An exported model does not reproduce the original, or does not fit the rig that it is asked to serve."""
