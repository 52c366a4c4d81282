"""How long the kit waits, with and without ``TAKO_TEST_TIMEOUT``."""

import pytest

from tako.testing.patience import Deadline, default_timeout


def test_ten_seconds_unless_the_environment_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TAKO_TEST_TIMEOUT", raising=False)
    assert default_timeout() == Deadline().timeout == 10
    monkeypatch.setenv("TAKO_TEST_TIMEOUT", "0.5")
    assert default_timeout() == Deadline().timeout == 0.5
    assert Deadline(3).timeout == 3


def test_a_deadline_that_is_over_is_an_error() -> None:
    deadline = Deadline(0)
    assert deadline.remaining <= 0
    with pytest.raises(TimeoutError, match="nothing happened for 0 s"):
        deadline.left()
    assert 0 < Deadline(1000).left() <= 1000
