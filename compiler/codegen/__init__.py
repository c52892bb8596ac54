"""Fused groups in, kernel source text out."""
