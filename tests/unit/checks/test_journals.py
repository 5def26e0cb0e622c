"""Journals: errors are counted once each, and lost connections that come back are none."""

from __future__ import annotations

from pipeline.checks.journals import errors_in

HEAD = "2026-01-01 10:00:00.{ms} 42 ERROR {logger} "


def _error(logger: str, *texts: str, ms: str = "123") -> list[str]:
    return [HEAD.format(ms=ms, logger=logger) + text for text in texts]


def test_a_traceback_is_one_error_told_by_its_first_line() -> None:
    log = _error("heat.engine", "Unexpected error", "Traceback (most recent call last):", "KeyError: 'a'")
    assert errors_in(log) == ("2026-01-01 10:00:00.123 heat.engine Unexpected error",)


def test_a_connection_that_was_lost_is_no_error_wherever_in_the_traceback_that_is_said() -> None:
    log = _error("oslo.messaging._drivers.impl_rabbit", "[a] AMQP server on 198.18.7.12:5672 is unreachable")
    log += _error("oslo_db.sqlalchemy.engines", "Database connection", "Traceback", "(2013, 'Lost connection to')")
    assert errors_in(log) == ()


def test_two_errors_are_two_and_keep_their_order() -> None:
    log = [*_error("a", "first"), *_error("b", "second", ms="124")]
    assert [error.split()[-1] for error in errors_in(log)] == ["first", "second"]


def test_other_lines_are_none() -> None:
    assert errors_in(["", "-- Boot --", "2026-01-01 10:00:00.1 42 INFO heat ERROR is a word"]) == ()
