"""Layers, under the names of Keras 3."""

from graphflow.keras.layers.base import Layer
from graphflow.keras.layers.convolution import Conv2D
from graphflow.keras.layers.core import (
    Activation,
    Dense,
    Embedding,
    Input,
    InputLayer,
    LeakyReLU,
    ReLU,
    Softmax,
)
from graphflow.keras.layers.merging import (
    Add,
    Average,
    Concatenate,
    Maximum,
    Minimum,
    Multiply,
    Subtract,
    add,
    concatenate,
    multiply,
)
from graphflow.keras.layers.normalization import BatchNormalization, LayerNormalization, Rescaling
from graphflow.keras.layers.operation import Operation
from graphflow.keras.layers.pooling import (
    AveragePooling2D,
    AvgPool2D,
    GlobalAveragePooling2D,
    GlobalAvgPool2D,
    GlobalMaxPool2D,
    GlobalMaxPooling2D,
    MaxPool2D,
    MaxPooling2D,
)
from graphflow.keras.layers.regularization import Dropout
from graphflow.keras.layers.reshaping import Flatten, Permute, Reshape, ZeroPadding2D

__all__ = [
    "Activation",
    "Add",
    "Average",
    "AveragePooling2D",
    "AvgPool2D",
    "BatchNormalization",
    "Concatenate",
    "Conv2D",
    "Dense",
    "Dropout",
    "Embedding",
    "Flatten",
    "GlobalAveragePooling2D",
    "GlobalAvgPool2D",
    "GlobalMaxPool2D",
    "GlobalMaxPooling2D",
    "Input",
    "InputLayer",
    "Layer",
    "LayerNormalization",
    "LeakyReLU",
    "MaxPool2D",
    "MaxPooling2D",
    "Maximum",
    "Minimum",
    "Multiply",
    "Permute",
    "ReLU",
    "Rescaling",
    "Reshape",
    "Softmax",
    "Subtract",
    "ZeroPadding2D",
    "add",
    "concatenate",
    "multiply",
]

_CLASSES = (
    Activation, Add, Average, AveragePooling2D, BatchNormalization, Concatenate, Conv2D, Dense,
    Dropout, Embedding, Flatten, GlobalAveragePooling2D, GlobalMaxPooling2D, InputLayer,
    LayerNormalization, LeakyReLU, MaxPooling2D, Maximum, Minimum, Multiply, Operation, Permute, ReLU,
    Rescaling, Reshape, Softmax, Subtract, ZeroPadding2D,
)  # fmt: skip
#: the classes that a saved model may name
LAYERS = {cls.__name__: cls for cls in _CLASSES}
