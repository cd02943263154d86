"""Whether a head of a Ray cluster answers at an address: asked first, since Ray itself waits for minutes."""

from __future__ import annotations

import socket

SECONDS = 5.0
"""How long a head may take to answer."""

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""What opens a connection of HTTP/2, which Ray's processes speak: its greeting, and empty settings."""

SETTINGS_FRAME = 4
NO_RAY = "something else than Ray answers there"


def why_unreachable(address: str) -> str:
    """Why no Ray answers at `HOST:PORT`; empty where one does."""
    host, _, port = address.rpartition(":")
    if not 0 < int(port) < 65536:
        return f"{port} is no port"
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=SECONDS) as connection:
            connection.sendall(PREFACE)
            header = connection.recv(9)
    except TimeoutError:
        return f"no answer within {SECONDS:g} s"
    except (ConnectionResetError, BrokenPipeError):
        return NO_RAY
    except (OSError, UnicodeError) as error:
        return str(getattr(error, "strerror", None) or error)
    return "" if header[3:4] == bytes([SETTINGS_FRAME]) else NO_RAY


def answers(address: str) -> bool:
    """Whether a Ray answers there."""
    return not why_unreachable(address)
