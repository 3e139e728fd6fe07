"""What is said of each failure of a store: what it means, the cure, and nothing secret."""

import socket
import ssl

import pytest
import redis.exceptions as of_redis

from loom_cache.backends import failures
from loom_cache.backends.failures import meaning, refused, unavailable


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (of_redis.AuthenticationError("invalid username-password pair"), "the password"),
        (of_redis.ResponseError("WRONGPASS invalid username-password pair"), "the password"),
        (of_redis.NoPermissionError("User x has no permissions"), "forbids its user"),
        (of_redis.OutOfMemoryError("command not allowed"), "maxmemory-policy"),
        # As Redis 6 tells of an error within a script.
        (of_redis.ResponseError("Error running script: f_1: -OOM command not allowed"), "is full"),
        (of_redis.ReadOnlyError("You can't write"), "read-only replica"),
        (of_redis.ResponseError("MISCONF Redis is configured to save"), "save to its disk"),
        (of_redis.ResponseError("NOREPLICAS Not enough good replicas"), "too few replicas"),
        (of_redis.BusyLoadingError("Redis is loading the dataset"), "loading its data"),
        (of_redis.MasterDownError("MASTERDOWN Link with MASTER is down"), "lost its primary"),
        (of_redis.MovedError("1234 127.0.0.1:7001"), "Redis Cluster"),
        (of_redis.ConnectionError("max number of clients reached"), "maxclients"),
        (of_redis.InvalidResponse("Protocol Error: b'HTTP/1.1'"), "does not answer as Redis"),
        (of_redis.TimeoutError("Timeout connecting to server"), "did not answer in time"),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "does not resolve"),
        (UnicodeError("label empty or too long"), "host name that none can be"),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"), "does not speak TLS"),
        (ConnectionRefusedError(111, "Connection refused"), "nothing listens there"),
        (ConnectionResetError(104, "Connection reset by peer"), "closed the connection"),
        (FileNotFoundError(2, "No such file or directory"), "no socket or certificate"),
        (PermissionError(13, "Permission denied"), "may not open"),
        (OSError(113, "No route to host"), "No route to host"),
    ],
)
def test_it_says_what_is_wrong_in_a_whole_sentence(error: Exception, said: str) -> None:
    message = str(unavailable("Redis at 127.0.0.1:6379", error))
    assert said in message
    assert message.startswith("Redis at 127.0.0.1:6379 ")
    assert message.endswith(".")


def test_what_a_library_wraps_is_found() -> None:
    error = of_redis.ConnectionError("Error 111 connecting to localhost:6379.")
    error.__context__ = ConnectionRefusedError(111, "Connection refused")
    assert "nothing listens there" in meaning(error)


def test_what_the_library_says_itself_comes_before_what_it_happened_in() -> None:
    """Code that reads while it handles an error of its own is no matter of the store's."""
    error = of_redis.ReadOnlyError("You can't write against a read only replica.")
    error.__context__ = PermissionError(13, "Permission denied")
    assert "read-only replica" in meaning(error)


def test_the_arguments_of_a_command_are_not_repeated() -> None:
    """A server without AUTH quotes what it was given with it."""
    answer = "unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'default' 'sesame'"
    message = str(refused("Redis", of_redis.ResponseError(answer)))
    assert "unknown command 'HELLO'" in message
    assert "sesame" not in message


def test_errors_of_every_library_are_known() -> None:
    for error in (of_redis.RedisError, ssl.SSLError, socket.gaierror, TimeoutError, UnicodeError):
        assert issubclass(error, failures.DOWN)


def test_errors_of_memcached_are_known_where_it_is_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    class ClientException(Exception):
        pass

    class Library:
        pass

    assert ClientException not in failures.down()
    monkeypatch.setitem(failures.sys.modules, "aiomcache", Library)  # type: ignore[attr-defined]
    monkeypatch.setattr(Library, "ClientException", ClientException, raising=False)
    assert ClientException in failures.down()
