"""Estimators for scikit-learn: several tasks in one network, in pipelines, searches and cross-validation."""

try:
    from sklearn.utils.validation import validate_data as _needed  # noqa: F401
except ImportError as _error:
    raise ImportError("polytask.sklearn needs scikit-learn 1.6 or later: pip install 'polytask[sklearn]'") from _error

from .classifier import MultiTaskClassifier
from .estimator import MultiTaskEstimator
from .regressor import MultiTaskRegressor

for _each in (MultiTaskClassifier, MultiTaskEstimator, MultiTaskRegressor):
    _each.__module__ = __name__

__all__ = ["MultiTaskClassifier", "MultiTaskEstimator", "MultiTaskRegressor"]
