"""Models, under the names of Keras 3."""

from graphflow.keras.models.functional import Functional
from graphflow.keras.models.model import Model
from graphflow.keras.models.sequential import Sequential
from graphflow.keras.saving import load_model, save_model

__all__ = ["Functional", "Model", "Sequential", "load_model", "save_model"]
