"""Bytes to bytes: the loops that are worth C, each with its twin in Python."""
