"""``@interpreted``: for tests that patch what compiled modules have bound for good."""

import pytest

from tako import native


interpreted = pytest.mark.skipif(
    native.status().endswith("compiled modules"),
    reason="patches a name that compiled modules do not look up",
)
