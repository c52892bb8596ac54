"""Hand-shaped pieces of kernels: vector mathematics and register tiles."""
