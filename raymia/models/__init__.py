"""The classifiers a study trains, and the way to bring one's own."""

from raymia.models.classifier import Classifier, last_linear
from raymia.models.registry import build_model, model_source_digest
from raymia.models.user_code import foreign_digest, load_function, source_digest

__all__ = [
    "Classifier",
    "build_model",
    "foreign_digest",
    "last_linear",
    "load_function",
    "model_source_digest",
    "source_digest",
]
