"""graphflow: define a computation graph in Python, differentiate it, compile it, run it."""

# ruff: noqa: F401
from graphflow import errors, linalg, nn, random
from graphflow.compiler.graph import name_scope
from graphflow.config import config
from graphflow.control import *
from graphflow.creation import *
from graphflow.function import Function, function
from graphflow.functions import *
from graphflow.gradient import *
from graphflow.io import load, save
from graphflow.linalg import einsum, matmul, matrix_transpose, outer, tensordot, vecdot
from graphflow.manipulation import *
from graphflow.random import seed
from graphflow.statistics import *
from graphflow.tensor import Tensor
from graphflow.variable import Placeholder, Variable, placeholder, variable
from graphflow.viz import viz

__version__ = "0.1.0"

#: dtypes by name, as the Array API asks
bool, float32, float64 = "bool", "float32", "float64"
int8, int16, int32, int64 = "int8", "int16", "int32", "int64"
uint8, uint16, uint32, uint64 = "uint8", "uint16", "uint32", "uint64"
e, inf, nan, newaxis, pi = 2.718281828459045, float("inf"), float("nan"), None, 3.141592653589793
