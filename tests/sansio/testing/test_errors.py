"""``ErrorLog``: which records are errors of a server, and how one is taken."""

import logging
import threading
from collections.abc import Iterator

import pytest

from tako.testing.errors import ErrorLog, ReportedError


SERVER = logging.getLogger("tako.server")


@pytest.fixture
def log() -> Iterator[ErrorLog]:
    log = ErrorLog()
    log.open()
    yield log
    log.close()


def report(error: BaseException) -> None:
    SERVER.error("a handler failed", exc_info=error)


def in_another_thread(error: BaseException) -> None:
    thread = threading.Thread(target=report, args=(error,))
    thread.start()
    thread.join()


def test_an_exception_is_taken_by_its_class(log: ErrorLog) -> None:
    error = KeyError("name")
    report(error)
    assert log.take(LookupError, None, 0) is error
    assert log.unexpected == []


def test_it_is_told_in_full_with_the_words_of_the_server(log: ErrorLog) -> None:
    report(KeyError("name"))
    [(_, text)] = log.unexpected
    assert text == "a handler failed\nKeyError: 'name'"


def test_words_alone_are_an_error_too(log: ErrorLog) -> None:
    SERVER.error("the %s is full", "disk")
    assert str(log.take(ReportedError, "disk", 0)) == "the disk is full"


@pytest.mark.parametrize("level", ["debug", "info", "warning"])
def test_what_is_less_than_an_error_is_none(log: ErrorLog, level: str) -> None:
    getattr(SERVER, level)("a peer left")
    assert log.unexpected == []


def test_an_exception_counts_once(log: ErrorLog) -> None:
    error = KeyError("name")
    report(error)
    report(error)
    log.take(KeyError, None, 0)
    report(error)
    assert log.unexpected == []


def test_what_another_thread_reports_is_of_another_server(log: ErrorLog) -> None:
    in_another_thread(KeyError("name"))
    assert log.unexpected == []


@pytest.mark.parametrize("name", ["asyncio", "trio.run", "tako.ws"])
def test_the_loggers_of_the_loops_are_heard(log: ErrorLog, name: str) -> None:
    logging.getLogger(name).error("a task failed")
    assert len(log.unexpected) == 1


def test_other_loggers_are_not(log: ErrorLog) -> None:
    logging.getLogger("app").error("no such user")
    assert log.unexpected == []


def test_after_its_end_nothing_is_heard() -> None:
    log = ErrorLog()
    log.open()
    log.close()
    report(KeyError("name"))
    assert log.unexpected == []


def test_the_text_chooses_among_several(log: ErrorLog) -> None:
    one, other = KeyError("one"), KeyError("other")
    report(one)
    report(other)
    assert log.take(KeyError, "other", 0) is other
    assert log.unexpected[0][0] is one


def test_what_is_alone_in_a_group_is_found(log: ErrorLog) -> None:
    # as task groups and nurseries raise it
    error = KeyError("name")
    report(BaseExceptionGroup("outer", [ExceptionGroup("inner", [error])]))
    assert log.take(KeyError, None, 0) is error


def test_a_group_of_several_is_taken_as_a_group(log: ErrorLog) -> None:
    report(ExceptionGroup("both", [KeyError("one"), ValueError("other")]))
    with pytest.raises(AssertionError, match="no KeyError"):
        log.take(KeyError, None, 0)
    assert len(log.take(ExceptionGroup, "both", 0).exceptions) == 2


def test_what_did_not_come_is_named_with_what_came(log: ErrorLog) -> None:
    report(KeyError("name"))
    with pytest.raises(AssertionError) as missed:
        log.take(ValueError, "age", 0)
    assert str(missed.value) == (
        "the server reported no ValueError with 'age' within 0 s; "
        "it reported KeyError('name')"
    )


def test_where_logging_is_off_it_sees_nothing(log: ErrorLog) -> None:
    assert not log.blind
    logging.disable(logging.CRITICAL)
    try:
        assert log.blind
    finally:
        logging.disable(logging.NOTSET)
    SERVER.disabled = True  # as `logging.config` does
    try:
        assert log.blind
    finally:
        SERVER.disabled = False
