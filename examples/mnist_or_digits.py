"""Data for the examples: MNIST where it can be had, else 8x8 digits enlarged to its shape."""

from __future__ import annotations

import numpy as np

from graphflow.errors import GraphError
from graphflow.keras.datasets import digits, mnist

NOTICE = """
******************************************************************************
*  MNIST IS NOT AVAILABLE HERE. A STAND-IN IS USED:                          *
*  real handwritten digits of 8x8 pixels (UCI), enlarged to 28x28, and       *
*  repeated to 60000 + 10000 rows. There are only 1437 + 360 different ones, *
*  so the accuracies below ARE NOT THOSE OF MNIST.                           *
******************************************************************************
"""


def use_stand_in_if_needed() -> None:
    """Make `mnist.load_data` return the stand-in, and say so, if MNIST cannot be loaded."""
    try:
        mnist.load_data()
    except GraphError as error:
        print(error)
        print(NOTICE)
        mnist.load_data = stand_in


def stand_in(rows_train: int = 60000, rows_test: int = 10000):
    """Digits in the form of MNIST: uint8 images of 28x28 pixels and labels."""
    (x_train, y_train), (x_test, y_test) = digits.load_data()
    return _repeated(x_train, y_train, rows_train), _repeated(x_test, y_test, rows_test)


def _repeated(x: np.ndarray, y: np.ndarray, rows: int):
    # 8x8 pixels 0..16, each three times as wide and high, in a frame of 2: 28x28 pixels 0..255.
    wide = np.kron(x, np.ones((1, 3, 3), "uint8")).astype("uint16") * 255 // 16
    images = np.pad(wide, ((0, 0), (2, 2), (2, 2))).astype("uint8")
    index = np.arange(rows) % len(x)
    return images[index], y[index]
