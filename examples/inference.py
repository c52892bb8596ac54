"""Load a saved function and predict: no training code, no model class, one file.

graphflow demo -o digits.gflow
python examples/inference.py digits.gflow
"""

import sys

import numpy as np

import graphflow as gf


def main(path):
    predict = gf.load(path)
    (image,) = predict.inputs
    batch = np.zeros((4, *image.shape[1:]), image.dtype)
    print(predict)
    print(predict(batch).argmax(axis=1))


if __name__ == "__main__":
    main(sys.argv[1])
