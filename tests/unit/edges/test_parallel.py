"""The same act on several hosts: all at once, answers in order, every act ended before an error is told."""

from __future__ import annotations

import threading

import pytest
from builders import region

from pipeline.edges.parallel import on_each
from pipeline.errors import HostUnreachable
from pipeline.inventory import Host

HOSTS = region().inventory.hosts


def test_answers_come_in_the_order_of_the_hosts() -> None:
    last = threading.Event()

    def act(host: Host) -> str:
        if host is HOSTS[-1]:
            last.set()
        assert last.wait(5), "the acts do not run at once"
        return host.name

    assert on_each(HOSTS, act) == tuple(host.name for host in HOSTS)


def test_no_hosts_are_no_work() -> None:
    assert on_each((), lambda host: host.name) == ()


def test_one_error_is_told_as_it_is_when_all_have_ended() -> None:
    ended: list[str] = []

    def act(host: Host) -> None:
        ended.append(host.name)
        if host is HOSTS[0]:
            raise HostUnreachable(f"{host.name} is gone")

    with pytest.raises(HostUnreachable) as caught:
        on_each(HOSTS, act)
    assert caught.value.message == f"{HOSTS[0].name} is gone"
    assert sorted(ended) == sorted(host.name for host in HOSTS)


def test_of_several_errors_the_first_hosts_is_told_and_the_others_are_counted() -> None:
    def act(host: Host) -> None:
        if host in HOSTS[1:4]:
            raise HostUnreachable(f"{host.name} is gone")

    with pytest.raises(HostUnreachable) as caught:
        on_each(HOSTS, act)
    assert caught.value.message == f"{HOSTS[1].name} is gone (and 2 more hosts failed)"


def test_a_mistake_of_ours_passes_through() -> None:
    def act(host: Host) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        on_each(HOSTS, act)
