"""The tracker of a controller: MLflow's where it is installed, else one that shows nothing."""

from storage.tracking.contract import NullTracker, Tracker, has_mlflow


def open_tracker(uri: str, *, home_option: str) -> Tracker:
    """Return what shows jobs in MLflow at a tracking URI; `home_option` completes the commands that it tells."""
    if not has_mlflow():
        return NullTracker()
    from storage.tracking.mlflow_tracker import MlflowTracker

    return MlflowTracker(uri, home_option=home_option)
