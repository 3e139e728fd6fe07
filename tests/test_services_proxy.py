"""The proxy that the tests put in front of a server."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from time import monotonic

import pytest

from tests.services.proxy import Proxy

TIMEOUT = 10.0
SHORT = 0.2
"""Within which what is held back is shown not to come."""


@contextmanager
def echoing(listener: socket.socket, prefix: bytes) -> Iterator[None]:
    """Answer every message of every client by itself, with a prefix."""

    def answer(client: socket.socket) -> None:
        with client, suppress(OSError):
            while data := client.recv(1024):
                client.sendall(prefix + data)

    def serve() -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = listener.accept()
                threading.Thread(target=answer, args=(client,), daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def server(stack: ExitStack, prefix: bytes = b"") -> tuple[str, int]:
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    stack.enter_context(echoing(listener, prefix))
    address: tuple[str, int] = listener.getsockname()
    return address


def client(stack: ExitStack, proxy: Proxy) -> socket.socket:
    return stack.enter_context(socket.create_connection(proxy.address, TIMEOUT))


def ask(connection: socket.socket, message: bytes = b"word") -> bytes:
    connection.sendall(message)
    return connection.recv(1024)


def test_it_passes_on_requests_and_replies(stack: ExitStack) -> None:
    proxy = stack.enter_context(Proxy(server(stack, b"re: ")))
    assert ask(client(stack, proxy)) == b"re: word"


def test_it_forwards_to_a_unix_socket(stack: ExitStack, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    listener = stack.enter_context(socket.socket(socket.AF_UNIX))
    listener.bind(str(path))
    listener.listen()
    stack.enter_context(echoing(listener, b"re: "))
    proxy = stack.enter_context(Proxy(path))
    assert ask(client(stack, proxy)) == b"re: word"


def test_a_cut_resets_connections_and_new_ones_work(stack: ExitStack) -> None:
    proxy = stack.enter_context(Proxy(server(stack)))
    connection = client(stack, proxy)
    ask(connection)
    proxy.cut()
    with pytest.raises(ConnectionResetError):
        connection.recv(1024)
    assert ask(client(stack, proxy)) == b"word"


def test_refused_clients_are_accepted_again_on_the_same_port(stack: ExitStack) -> None:
    proxy = stack.enter_context(Proxy(server(stack)))
    old = client(stack, proxy)
    ask(old)
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        client(stack, proxy)
    assert ask(old) == b"word"
    proxy.accept()
    assert ask(client(stack, proxy)) == b"word"


@pytest.mark.parametrize("directions", [{}, {"requests": False}, {"replies": False}])
def test_what_hangs_comes_when_it_flows_again(
    stack: ExitStack, directions: dict[str, bool]
) -> None:
    proxy = stack.enter_context(Proxy(server(stack)))
    proxy.hang(**directions)
    connection = client(stack, proxy)
    connection.settimeout(SHORT)
    with pytest.raises(TimeoutError):
        ask(connection)
    assert proxy.held == 1
    connection.settimeout(TIMEOUT)
    proxy.flow()
    assert connection.recv(1024) == b"word"


def test_a_delay_is_that_of_each_direction(stack: ExitStack) -> None:
    proxy = stack.enter_context(Proxy(server(stack)))
    connection = client(stack, proxy)
    proxy.delay(SHORT)
    started = monotonic()
    assert ask(connection) == b"word"
    assert monotonic() - started >= 2 * SHORT


def test_it_can_be_pointed_at_another_server(stack: ExitStack) -> None:
    proxy = stack.enter_context(Proxy(server(stack, b"one ")))
    connection = client(stack, proxy)
    assert ask(connection) == b"one word"
    proxy.point_at(server(stack, b"two "))
    with pytest.raises(ConnectionResetError):
        connection.recv(1024)
    assert ask(client(stack, proxy)) == b"two word"


def test_a_client_is_reset_where_no_server_is(stack: ExitStack) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address: tuple[str, int] = closed.getsockname()
    proxy = stack.enter_context(Proxy(address))
    with pytest.raises(ConnectionResetError):
        client(stack, proxy).recv(1024)


def test_a_side_that_closes_closes_the_other(stack: ExitStack) -> None:
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    proxy = stack.enter_context(Proxy(listener.getsockname()))
    connection = client(stack, proxy)
    accepted, _ = listener.accept()
    with accepted:
        accepted.sendall(b"last")
    assert connection.recv(1024) == b"last"
    assert connection.recv(1024) == b""


def test_it_starts_and_stops_any_number_of_times(stack: ExitStack) -> None:
    proxy = Proxy(server(stack))
    proxy.stop()
    assert proxy.start() is proxy.start()
    port = proxy.port
    connection = client(stack, proxy)
    ask(connection)
    proxy.stop()
    proxy.stop()
    with pytest.raises(ConnectionResetError):
        connection.recv(1024)
    with proxy:
        assert proxy.port == port
        assert ask(client(stack, proxy)) == b"word"
