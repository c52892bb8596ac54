"""The exceptions that graphflow raises, each saying what, where, expected, got and the remedy."""


class GraphError(ValueError):
    """A graph was built or used in a way that cannot be right."""


class ShapeError(GraphError):
    """Shapes that do not fit together; the message names the op, the operands and their lines."""


class DTypeError(GraphError, TypeError):
    """A dtype that the operation does not take."""


class GradientError(GraphError):
    """A derivative that does not exist or has no rule."""


class VerificationError(AssertionError):
    """A pass left a graph that breaks an invariant: a bug of the compiler, not of its user."""


class IndexOutOfRange(IndexError):
    """An index met while running lies outside its bound; names op, position, value and bound."""


class NaNError(ArithmeticError):
    """mode="nanguard": a result has a NaN, or an Inf that an op made; names the first such op."""


class GraphFormatError(ValueError):
    """A saved graph was refused; one line says what is wrong with the file."""
