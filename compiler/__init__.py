"""Graph in, Program out: types, derivatives, passes, fusion and kernel source."""
