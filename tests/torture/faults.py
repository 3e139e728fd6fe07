"""What is done to the servers and to the writers while the processes run."""

from __future__ import annotations

import random
from collections.abc import Callable
from time import monotonic, sleep
from urllib.parse import urlsplit

import redis

from tests.services.proxy import Proxy
from tests.services.redis import RedisServer
from tests.torture.board import Board

TIMEOUT = 20.0
"""Seconds until something must have happened."""
READERS_ARE_BACK = 1.6
"""Seconds after an outage until those that gave the store up have asked for it again."""


class Stage:
    """What a fault may lay hands on."""

    def __init__(
        self,
        board: Board,
        proxy: Proxy,
        store: RedisServer,
        spare: RedisServer | None,
        kill: Callable[[int], None],
        writers: int,
    ) -> None:
        self.board = board
        self.proxy = proxy
        self.store = store
        self.spare = spare
        """Follows the store."""
        self.kill = kill
        self.writers = writers
        self.outages = 0
        self.random = random.Random()
        self.link = Proxy(address_of(store))
        """Between the store and the spare."""

    def pause_writers(self) -> None:
        """Until all they have written is acknowledged and its invalidation delivered."""
        self.board.paused = True
        wait_for(lambda: all(self.board.is_idle(writer) for writer in range(self.writers)))

    def resume_writers(self) -> None:
        self.board.paused = False


Fault = Callable[[Stage], None]


def kill_a_writer(stage: Stage) -> None:
    stage.kill(stage.random.randrange(stage.writers))


def restart(stage: Stage) -> None:
    """Kill Redis some time after its last snapshot, and start it with that."""
    stage.store.client.save()
    _lose(stage, stage.store.restart)


def fail_over(stage: Stage) -> None:
    """Promote a replica that lags behind, point everybody at it, and let the old one follow it."""
    assert stage.spare is not None
    follow(stage.spare, stage.link)
    stage.link.hang(requests=False)
    _lose(stage, lambda: _promote(stage), also=lambda: _promote(stage))


def _promote(stage: Stage) -> None:
    assert stage.spare is not None
    old, new = stage.store, stage.spare
    new.client.replicaof("NO", "ONE")
    stage.proxy.point_at(address_of(new))
    stage.store, stage.spare = new, old
    stage.link.point_at(address_of(new))
    stage.link.flow()
    follow(old, stage.link)


def _lose(stage: Stage, outage: Callable[[], None], also: Callable[[], None] | None = None) -> None:
    """Write what the outage makes Redis forget. Every other time nobody writes until readers have
    seen what has come back, and what comes back by another outage (`also`), so that no new
    invalidation covers it up."""
    sleep(stage.random.uniform(0.1, 0.3))
    stage.outages += 1
    if stage.outages % 2:
        stage.pause_writers()
        for happens in (outage, also):
            if happens is not None:
                happens()
                sleep(READERS_ARE_BACK)
    else:
        outage()
        sleep(stage.random.uniform(0.2, READERS_ARE_BACK))
    stage.resume_writers()


def suspend(stage: Stage) -> None:
    """Make Redis hang, mostly shorter and at times longer than a writer waits for it."""
    stage.store.suspend()
    try:
        sleep(stage.random.choice([0.1, 0.3, 0.6, 2.5]))
    finally:
        stage.store.resume()


def forget(stage: Stage) -> None:
    """Flush Redis, or delete some of the counters or of all keys."""
    client, chosen = stage.store.client, stage.random.random()
    if chosen < 0.3:
        client.flushall()  # a server that the torture has started
        return
    keys = client.keys("*g:{*" if chosen < 0.8 else "*")
    if keys:
        client.delete(*stage.random.sample(keys, stage.random.randint(1, len(keys))))


def cut(stage: Stage) -> None:
    """Cut every connection to Redis; at times, hold its answers back or refuse clients before."""
    chosen = stage.random.random()
    if chosen < 0.3:
        stage.proxy.hang(requests=False)
        sleep(stage.random.uniform(0.02, 0.4))
        stage.proxy.flow()
    elif chosen < 0.5:
        stage.proxy.refuse()
        stage.proxy.cut()
        sleep(stage.random.uniform(0.02, 0.4))
        stage.proxy.accept()
    else:
        stage.proxy.cut()


def follow(replica: RedisServer, link: Proxy) -> None:
    """Make it a replica of what is behind `link`, and wait until it is in step."""
    replica.client.replicaof(*map(str, link.address))

    def is_in_step() -> bool:
        said = replica.client.info("replication")
        return bool(said["role"] == "slave" and said["master_link_status"] == "up")

    wait_for(is_in_step)


def address_of(server: RedisServer) -> tuple[str, int]:
    place = urlsplit(server.url)
    assert place.hostname is not None
    assert place.port is not None
    return place.hostname, place.port


def wait_for(holds: Callable[[], bool], seconds: float = TIMEOUT) -> None:
    end = monotonic() + seconds
    while not _holds(holds):
        if monotonic() > end:
            raise TimeoutError(f"It has not come about within {seconds:g} s.")
        sleep(0.002)


def _holds(holds: Callable[[], bool]) -> bool:
    try:
        return holds()
    except redis.ConnectionError:  # it is being started
        return False
