"""How long the project's own tests wait."""

import os


PATIENCE = float(os.environ.get("TAKO_TEST_PATIENCE", "1"))
"""Every limit of the tests is multiplied with it."""

TIMEOUT = 60.0 * PATIENCE
"""Seconds that a test waits for what must happen at once: only a hang takes longer."""

NEVER = 100 * TIMEOUT
"""A limit of the server that a test must not wait for: its own is over before."""

os.environ.setdefault("TAKO_TEST_TIMEOUT", str(TIMEOUT))  # of the peer
