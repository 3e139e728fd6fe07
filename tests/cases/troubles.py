"""What can befall a Redis, in its real forms: each trouble begins, lasts and is over."""

from __future__ import annotations

import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from tests.cases.interleaving import PATIENCE
from tests.services.certificates import for_localhost
from tests.services.proxy import Proxy
from tests.services.redis import RedisServer, free_port

TIMEOUT = WRITE_TIMEOUT = 0.25
NAME = "store.test"


class Trouble(NamedTuple):
    location: str
    begin: Callable[[], object]
    end: Callable[[], object]


def is_not_there(stack: ExitStack) -> Trouble:
    server = _server(stack)

    def begin() -> None:
        server.client.save()  # what comes back is as it was
        server.kill()

    return Trouble(server.url, begin, server.restart)


def hangs(stack: ExitStack) -> Trouble:
    server = _server(stack)
    stack.callback(server.resume)
    return Trouble(server.url, server.suspend, server.resume)


def answers_too_late(stack: ExitStack) -> Trouble:
    return _delayed(stack, 2 * TIMEOUT)


def answers_in_most_of_the_time(stack: ExitStack) -> Trouble:
    """Once, but not twice."""
    return _delayed(stack, 0.6 * TIMEOUT)


def is_cut_off_in_the_middle_of_answers(stack: ExitStack) -> Trouble:
    return _half_answered(stack, then_close=True)


def falls_silent_in_the_middle_of_answers(stack: ExitStack) -> Trouble:
    return _half_answered(stack, then_close=False)


def is_full(stack: ExitStack) -> Trouble:
    server = _server(stack, maxmemory_policy="noeviction")
    return Trouble(
        server.url,
        lambda: server.client.config_set("maxmemory", 1),
        lambda: server.client.config_set("maxmemory", 0),
    )


def became_a_replica(stack: ExitStack) -> Trouble:
    """The other took over when it had all that there was."""
    server, other = _server(stack), _server(stack)

    def begin() -> None:
        other.follow(server)
        other.lead()
        server.follow(other)
        _disconnect(server)  # as Sentinel does

    return Trouble(server.url, begin, server.lead)


def changes_its_password(stack: ExitStack) -> Trouble:
    server = _server(stack, requirepass="sesame")

    def become(password: str) -> None:
        server.client.config_set("requirepass", password)
        _disconnect(server)

    return Trouble(server.url, lambda: become("open-simsim"), lambda: become("sesame"))


def forbids_a_command(stack: ExitStack) -> Trouble:
    server = _server(stack)
    names: dict[str, Any] = {
        "enabled": True,
        "passwords": ["+sesame"],
        "keys": ["*"],
        "categories": ["+@all"],
    }
    server.client.acl_setuser("loom", **names, commands=["+mget"])
    return Trouble(
        server.url.replace("redis://", "redis://loom:sesame@"),
        lambda: server.client.acl_setuser("loom", **names, commands=["-mget"]),
        lambda: server.client.acl_setuser("loom", **names, commands=["+mget"]),
    )


def loses_its_name(stack: ExitStack) -> Trouble:
    return _named(stack, NameService.refuse)


def waits_for_its_name(stack: ExitStack) -> Trouble:
    """Name services take many seconds to give up."""
    return _named(stack, NameService.hang)


def shows_another_certificate(stack: ExitStack) -> Trouble:
    server, port, directory = _tls_server(stack)
    for_localhost(directory, "theirs")

    def show(name: str) -> None:
        server.client.config_set(
            "tls-cert-file", f"{directory}/{name}.pem", "tls-key-file", f"{directory}/{name}.key"
        )
        _disconnect(server)

    location = f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={directory}/ours.pem"
    return Trouble(location, lambda: show("theirs"), lambda: show("ours"))


def speaks_no_tls(stack: ExitStack) -> Trouble:
    server, port, directory = _tls_server(stack)
    proxy = stack.enter_context(Proxy(("127.0.0.1", port)))
    return Trouble(
        f"rediss://127.0.0.1:{proxy.port}/0?ssl_ca_certs={directory}/ours.pem",
        lambda: proxy.point_at(("127.0.0.1", server.port)),
        lambda: proxy.point_at(("127.0.0.1", port)),
    )


def wants_tls(stack: ExitStack) -> Trouble:
    server, port, _ = _tls_server(stack)
    proxy = stack.enter_context(Proxy(("127.0.0.1", server.port)))
    return Trouble(
        f"redis://127.0.0.1:{proxy.port}/0",
        lambda: proxy.point_at(("127.0.0.1", port)),
        lambda: proxy.point_at(("127.0.0.1", server.port)),
    )


def loads_its_data(stack: ExitStack) -> Trouble:
    """Slowly, until it is told to make haste: 5 ms a key, which are larger than what it reads
    without looking at its clients."""
    server = _server(stack, key_load_delay=5000, loading_process_events_interval_bytes=1024)
    restarting = threading.Thread(target=server.restart)

    def begin() -> None:
        server.client.mset({f"ballast{number}": os.urandom(1100) for number in range(2000)})
        server.client.save()
        was = server.run_id
        restarting.start()
        _until(lambda: _is_loading(server.url, instead_of=was))

    def end() -> None:
        with redis.Redis.from_url(server.url) as client:  # its own is not there before it is ready
            client.config_set("key-load-delay", 0)
        restarting.join(PATIENCE)

    return Trouble(server.url, begin, end)


def _server(stack: ExitStack, **conf: Any) -> RedisServer:
    return stack.enter_context(RedisServer().start(tcp=True, **conf))


def _disconnect(server: RedisServer) -> None:
    server.client.client_kill_filter(_type="normal", skipme=True)


def _delayed(stack: ExitStack, seconds: float) -> Trouble:
    proxy = stack.enter_context(Proxy(("127.0.0.1", _server(stack).port)))
    location = f"redis://127.0.0.1:{proxy.port}/0"
    return Trouble(location, lambda: proxy.delay(seconds / 2), lambda: proxy.delay(0))


def _half_answered(stack: ExitStack, *, then_close: bool) -> Trouble:
    """A network that loses the second half of every answer."""
    real = ("127.0.0.1", _server(stack).port)
    proxy = stack.enter_context(Proxy(real))
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    clients = stack.enter_context(ExitStack())

    def answer() -> None:
        while True:
            try:
                client = clients.enter_context(listener.accept()[0])
            except OSError:
                return
            client.recv(1)
            client.sendall(b"$1000\r\nhalf")
            if then_close:
                client.close()

    threading.Thread(target=answer, daemon=True).start()
    stack.callback(listener.shutdown, socket.SHUT_RDWR)
    return Trouble(
        f"redis://127.0.0.1:{proxy.port}/0",
        lambda: proxy.point_at(listener.getsockname()),
        lambda: proxy.point_at(real),
    )


def _tls_server(stack: ExitStack) -> tuple[RedisServer, int, Path]:
    """A server with TLS on that port, and a certificate named "ours"."""
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    ours = for_localhost(directory, "ours")
    port = free_port()
    files = {"tls_cert_file": ours.file, "tls_key_file": ours.key, "tls_ca_cert_file": ours.file}
    return _server(stack, tls_port=port, tls_auth_clients="no", **files), port, directory


class NameService:
    """Knows NAME as 127.0.0.1."""

    def __init__(self) -> None:
        self._original = socket.getaddrinfo
        self._works = True
        self._flows = threading.Event()
        self._flows.set()

    def getaddrinfo(self, host: Any, *args: Any, **kwargs: Any) -> Any:
        if host != NAME:
            return self._original(host, *args, **kwargs)
        self._flows.wait(PATIENCE)
        if not self._works:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return self._original("127.0.0.1", *args, **kwargs)

    def refuse(self) -> None:
        self._works = False

    def hang(self) -> None:
        self._flows.clear()

    def work(self) -> None:
        self._works = True
        self._flows.set()


def _named(stack: ExitStack, fail: Callable[[NameService], None]) -> Trouble:
    server, names = _server(stack), NameService()
    stack.enter_context(patch.object(socket, "getaddrinfo", names.getaddrinfo))
    stack.callback(names.work)

    def begin() -> None:
        fail(names)
        _disconnect(server)

    return Trouble(f"redis://{NAME}:{server.port}/0", begin, names.work)


def _is_loading(url: str, *, instead_of: str) -> bool:
    with redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0)) as client:
        found: dict[str, Any] = client.info()
    return bool(found["loading"]) and found["run_id"] != instead_of


def _until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            if true():
                return
        except RedisError:  # not even listening yet
            pass
        if time.monotonic() > deadline:
            raise TimeoutError("What was waited for has not come.")
        time.sleep(0.01)


TROUBLES: dict[str, Callable[[ExitStack], Trouble]] = {
    trouble.__name__.replace("_", " ").replace("tls", "TLS"): trouble
    for trouble in (
        is_not_there,
        hangs,
        answers_too_late,
        answers_in_most_of_the_time,
        is_cut_off_in_the_middle_of_answers,
        falls_silent_in_the_middle_of_answers,
        loses_its_name,
        waits_for_its_name,
        shows_another_certificate,
        speaks_no_tls,
        wants_tls,
        changes_its_password,
        forbids_a_command,
        is_full,
        became_a_replica,
        loads_its_data,
    )
}
