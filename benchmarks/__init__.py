"""Workloads timed beside peers; nothing here is a test."""
