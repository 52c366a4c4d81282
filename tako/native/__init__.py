"""Bytes to bytes: the loops that are worth compiling, each with its twin in Python."""
