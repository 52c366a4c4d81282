"""ASGI apps on tako."""
