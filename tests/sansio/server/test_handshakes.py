"""``Handshakes``: the oldest that is unfinished makes room."""

from tako.server.handshakes import Handshakes


class Connection:
    def __init__(self) -> None:
        self.handshaking = True
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True
        self.handshaking = False


def test_they_are_kept_in_the_order_of_their_arrival() -> None:
    handshakes = Handshakes(3)
    connections = [Connection() for _ in range(3)]
    for each in connections:
        handshakes.add(each)
    assert list(handshakes) == connections
    assert not any(each.aborted for each in connections)


def test_one_too_many_costs_the_oldest() -> None:
    handshakes = Handshakes(2)
    connections = [Connection() for _ in range(4)]
    for each in connections:
        handshakes.add(each)
    assert [each.aborted for each in connections] == [True, True, False, False]
    assert list(handshakes) == connections[2:]


def test_those_that_are_complete_do_not_count() -> None:
    handshakes = Handshakes(2)
    connections = [Connection() for _ in range(5)]
    for number, each in enumerate(connections):
        handshakes.add(each)
        each.handshaking = number == 0  # the oldest never completes
    assert list(handshakes) == connections[:1]
    assert not any(each.aborted for each in connections)


def test_what_is_complete_is_let_go_of() -> None:
    handshakes = Handshakes(10)
    for _ in range(100):
        connection = Connection()
        handshakes.add(connection)
        connection.handshaking = False
    assert len(handshakes._queue) == 1  # pyright: ignore[reportPrivateUsage]


def test_one_that_was_discarded_is_forgotten_and_may_be_discarded_again() -> None:
    handshakes = Handshakes(1)
    first, second = Connection(), Connection()
    handshakes.add(first)
    handshakes.discard(first)
    handshakes.discard(first)
    handshakes.add(second)
    assert list(handshakes) == [second]
    assert not first.aborted
