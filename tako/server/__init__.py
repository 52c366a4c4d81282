"""Listeners, connections, admission and drain: everything that serves."""
