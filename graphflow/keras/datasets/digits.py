"""Real handwriting that ships with graphflow: 8×8 digits; see DIGITS.md for source and licence."""

from __future__ import annotations

from pathlib import Path

import numpy as np

Split = tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def load_data(test_size: int = 360) -> Split:
    """(x_train, y_train), (x_test, y_test): always the same split, classes evenly in both.

    Args:
        test_size: about how many of the 1,797 digits are kept for testing.

    Returns:
        x: (n, 8, 8) uint8, 0..16; y: (n,) uint8.
    """
    with np.load(Path(__file__).with_name("digits.npz"), allow_pickle=False) as file:
        x, y = file["x"], file["y"]
    rng = np.random.default_rng(0)
    order = rng.permutation(len(x))
    # Each class gives the same share to the test set.
    rank = np.zeros(len(x), np.int64)
    for digit in range(10):
        members = order[y[order] == digit]
        rank[members] = np.arange(len(members))
    test = rank[order] < test_size // 10
    train_rows, test_rows = order[~test], order[test]
    return (x[train_rows], y[train_rows]), (x[test_rows], y[test_rows])
