"""Workloads: reading, writing, capturing from a model; small real traces are shipped here."""
