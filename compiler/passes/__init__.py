"""Graph -> Graph transformations, one per file; `pipeline` alone knows their order."""
