"""What happens between epochs and batches: stopping, saving, logging, changing the rate."""

from graphflow.keras.callbacks.base import Callback, CallbackList, History, LambdaCallback, Logs
from graphflow.keras.callbacks.logs import CSVLogger, TensorBoard
from graphflow.keras.callbacks.rates import LearningRateScheduler
from graphflow.keras.callbacks.watching import (
    EarlyStopping,
    ModelCheckpoint,
    ReduceLROnPlateau,
    StopAtThreshold,
    TerminateOnNaN,
)

__all__ = [
    "CSVLogger",
    "Callback",
    "CallbackList",
    "EarlyStopping",
    "History",
    "LambdaCallback",
    "LearningRateScheduler",
    "Logs",
    "ModelCheckpoint",
    "ReduceLROnPlateau",
    "StopAtThreshold",
    "TensorBoard",
    "TerminateOnNaN",
]
