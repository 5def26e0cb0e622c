"""What holds for the broker: Heat's vhost and user, engines that listen, and nothing that would eat messages."""

from __future__ import annotations

import json
from typing import Any

from pipeline.checks import questions
from pipeline.checks.expectation import answer, expect
from pipeline.checks.survey import Survey
from pipeline.environment import Role
from pipeline.inventory import Host
from pipeline.site import Site

ROLES = (Role.MESSAGING,)

_ALL = "configure '.*', write '.*', read '.*'"


def check_vhost_is_there(target: Host, survey: Survey, vhost: str) -> None:
    """The vhost that the release talks on exists."""
    found = survey.broker(target).vhosts
    likely = "the upgrade was interrupted, or the broker lost its data"
    expect(vhost in found, expected=f"vhost {vhost}", found=", ".join(sorted(found)), likely=likely)


def check_user_heat_may_use_the_vhost(target: Host, survey: Survey, vhost: str) -> None:
    """User heat may do everything on the release's vhost."""
    found = survey.broker(target).permissions
    likely = f"rabbitmqctl set_permissions -p {vhost} heat '.*' '.*' '.*' was not run or undone"
    expect(found == (_ALL,), expected=f"heat on {vhost}: {_ALL}", found="; ".join(found), likely=likely)


def check_no_user_but_heat(target: Host, survey: Survey) -> None:
    """Nobody else has an account; guest, with its known password, least of all."""
    found = survey.broker(target).users
    likely = "an account was made by hand, or the broker started with an empty database: inv deploy"
    expect(found == {"heat"}, expected="only user heat", found=", ".join(sorted(found)), likely=likely)


def check_every_worker_consumes(target: Host, survey: Survey, site: Site) -> None:
    """Each engine worker takes messages from the queues that engines share."""
    workers = len(site.region.inventory.of(Role.ENGINE)) * site.environment.heat.engine_workers
    queues = survey.broker(target).queues
    counts = {name: queues[name].consumers if name in queues else 0 for name in ("engine", "engine_worker")}
    found = ", ".join(f"{name} {count}" for name, count in counts.items())
    likely = "an engine is down, lost its connection, or talks on another vhost: journalctl -u heat-engine"
    enough = all(count >= workers for count in counts.values())
    expect(enough, expected=f"{workers} consumers on each queue of engines", found=found, likely=likely)


def check_no_message_expires(target: Host, survey: Survey) -> None:
    """No policy or queue lets messages expire: a stack whose message is lost hangs for good."""
    found = survey.broker(target).expiring
    likely = "a policy with message-ttl was set on the vhost: rabbitmqctl clear_policy"
    expect(not found, expected="no policy or queue with message-ttl", found=", ".join(found), likely=likely)


def check_no_policy_drops_messages(target: Host, survey: Survey) -> None:
    """No policy limits how many messages a queue holds, or deletes queues: what is dropped is as lost as expired."""
    found = survey.broker(target).dropping
    likely = "a policy with max-length or expires was set on the vhost: rabbitmqctl clear_policy"
    expect(not found, expected="no policy with max-length or expires", found=", ".join(found), likely=likely)


def check_every_connection_is_encrypted(host: Any, site: Site) -> None:
    """Where hosts speak TLS among themselves, nobody talks to the broker without."""
    if not site.environment.heat_uses_tls:
        return
    lines = [line.split() for line in answer(host, *questions.ENCRYPTED, program="rabbitmqctl").splitlines()]
    plain = sorted({peer for encrypted, peer in lines if encrypted != "true"})
    likely = "its engine or API was not restarted since TLS was turned on: inv deploy"
    expect(not plain, expected="TLS on every connection", found=f"none from {', '.join(plain)}", likely=likely)


def check_cluster_is_whole(host: Any, site: Site) -> None:
    """Every member of a cluster runs in it, as this one sees it, and none is cut off from another."""
    if not site.environment.topology.is_cluster(Role.MESSAGING):
        return
    size = site.environment.topology.messaging.count
    status = json.loads(answer(host, *questions.BROKERS, program="rabbitmqctl"))
    running = sorted(status["running_nodes"])
    likely = "a member is down, or waits for a majority: rabbitmqctl cluster_status on each; inv deploy starts it"
    found = f"{len(running)} run: {', '.join(running)}"
    expect(len(running) == size, expected=f"{size} members running", found=found, likely=likely)
    expect(not status["partitions"], expected="no partition", found=status["partitions"], likely=likely)


def check_queues_are_kept_by_a_majority(target: Host, survey: Survey, site: Site) -> None:
    """In a cluster, every queue of engines is a quorum queue: the loss of one member loses no message."""
    if not site.environment.topology.is_cluster(Role.MESSAGING):
        return
    found = survey.broker(target).single
    likely = "they were made before the broker was a cluster, or by an engine with another heat.conf"
    expect(not found, expected="quorum queues only", found=", ".join(found), likely=likely)


def check_no_alarm(target: Host, survey: Survey) -> None:
    """No alarm is raised: with one, the broker takes no message from anybody."""
    found = survey.broker(target).alarm
    expect(not found, expected="no alarm", found=found, likely="memory or disk of the broker's host ran low")
