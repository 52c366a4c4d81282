"""Which version of HTTP the attempts of one opening use, and what is learned."""

import pytest

from tako.client.origins import Advice, Known, Origins, Wires


BOTH = ("2", "1.1")


class Openings:
    """Openings at one origin, at times that the test says."""

    def __init__(self) -> None:
        self.origins = Origins()
        self.now = 0.0

    def wires(self, allowed: tuple[str, ...] = BOTH, *, secure: bool = True) -> Wires:
        return Wires(self.origins, "o", allowed, secure=secure, now=self.now)

    def known(self) -> Known:
        return self.origins.known("o", self.now)


@pytest.fixture
def openings() -> Openings:
    return Openings()


def test_both_are_tried_over_tls_and_http1_without(openings: Openings) -> None:
    assert openings.wires().versions == BOTH
    assert openings.wires(("1.1",)).versions == ("1.1",)
    assert openings.wires(secure=False).versions == ("1.1",)
    assert openings.wires(("2",), secure=False).versions == ("2",)


@pytest.mark.parametrize(
    ("advice", "seconds"), [(Advice.USE_H1, 3600), (Advice.USE_H1_FOR_NOW, 300)]
)
def test_a_server_without_tunnels_is_remembered_for_a_time(
    openings: Openings, advice: Advice, seconds: float
) -> None:
    wires = openings.wires()
    assert wires.failed(advice, 0.0)
    assert wires.versions == ("1.1",)
    openings.now = seconds - 1
    assert openings.wires().versions == ("1.1",)
    openings.now = seconds + 1
    assert openings.wires().versions == BOTH


def test_a_guess_is_remembered_only_if_it_was_right(openings: Openings) -> None:
    wires = openings.wires()
    assert wires.failed(Advice.TRY_H1, 0.0)
    assert wires.versions == ("1.1",)
    assert not wires.failed(Advice.GIVE_UP, 0.0)
    assert openings.known() is Known.NOTHING
    wires = openings.wires()
    assert wires.failed(Advice.TRY_H1, 0.0)
    wires.worked("1.1", 0.0)
    assert openings.known() is Known.H1_ONLY


def test_where_http2_has_worked_a_reset_is_an_answer(openings: Openings) -> None:
    openings.wires().worked("2", 0.0)
    assert openings.known() is Known.H2_WORKS
    assert not openings.wires().failed(Advice.TRY_H1, 0.0)


def test_http1_that_works_by_alpn_is_no_news(openings: Openings) -> None:
    openings.wires().worked("1.1", 0.0)
    assert openings.known() is Known.NOTHING


def test_what_was_not_looked_at_is_asked_once_more(openings: Openings) -> None:
    wires = openings.wires()
    assert wires.failed(Advice.AGAIN, 0.0)
    assert wires.versions == BOTH
    assert not wires.failed(Advice.AGAIN, 0.0)


def test_no_opening_has_more_than_three_attempts(openings: Openings) -> None:
    wires = openings.wires()
    assert wires.failed(Advice.AGAIN, 0.0)
    assert wires.failed(Advice.TRY_H1, 0.0)
    for advice in Advice:
        assert not wires.failed(advice, 0.0)


@pytest.mark.parametrize("advice", [Advice.USE_H1, Advice.TRY_H1, Advice.GIVE_UP])
def test_http2_alone_is_not_replaced(openings: Openings, advice: Advice) -> None:
    assert not openings.wires(("2",)).failed(advice, 0.0)


def test_http1_that_fails_is_forgotten(openings: Openings) -> None:
    openings.wires().failed(Advice.USE_H1, 0.0)
    assert not openings.wires().failed(Advice.GIVE_UP, 0.0)
    assert openings.known() is Known.NOTHING


def test_the_memory_is_bounded() -> None:
    origins = Origins()
    for number in range(2000):
        origins.learn(number, Known.H1_ONLY, 0.0)
    assert origins.known(0, 0.0) is Known.NOTHING
    assert origins.known(1999, 0.0) is Known.H1_ONLY
    assert len(origins._known) == 1024
