"""The Autobahn suite as tests; slow, and skipped where ``wstest`` is not installed."""

import pytest

from tests.conformance.autobahn import ALL_CASES, SHARES, conform, find_wstest


pytestmark = pytest.mark.slow


@pytest.mark.parametrize("runtime_name", ["asyncio", "trio"])
@pytest.mark.parametrize("carrier", ["h1", "h2"])
@pytest.mark.parametrize("role", ["server", "client"])
def test_every_case_passes(role: str, carrier: str, runtime_name: str) -> None:
    wstest = find_wstest()
    if wstest is None:
        pytest.skip("wstest is not installed: see tests/conformance/README.md")
    grades = conform(wstest, carrier, runtime_name, list(SHARES), role)
    assert [grade for grade in grades if not grade.passed] == []
    assert len(grades) == ALL_CASES
