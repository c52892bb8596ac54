"""Runs a Program: object code, launch table, threads, arena."""
