"""Data sets for first steps."""

from graphflow.keras.datasets import digits, mnist

__all__ = ["digits", "mnist"]
