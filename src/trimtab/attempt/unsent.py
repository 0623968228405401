"""Whether a gRPC call that failed provably reached no application.

Taken as proof, all of it together: the status is UNAVAILABLE, its text is the one that gRPC's own
channel gives for a connection that could not be made, to the very address that the call was for; no
initial metadata came; and the caller finds that this channel is not connected. gRPC puts a call on a
connection only once there is one, and repeats it by itself only where the server has said, in HTTP/2,
that it has not looked at it.

Not taken as proof: such a text that names another address (an application may pass on what befell a
call of its own), a connection that broke under way (the server may have read the call), ``RST_STREAM``
with ``REFUSED_STREAM`` (gRPC repeats that itself, once; the text alone doesn't say who refused), and
CANCELLED in a race with a GOAWAY.
Weakness: a status' text is the server's to choose. One that executes a call, answers it with exactly
this text about its own address and closes the connection before the caller has looked is believed.
"""

from __future__ import annotations

from urllib.parse import unquote

_UNAVAILABLE = 14
_BEGIN = "failed to connect to all addresses; last error: "


def never_left(target: str, code: int, details: str | None, initial: object) -> bool:
    """Whether a status says so; the caller looks at the connection.

    Args:
        target: the endpoint's, such as ``ipv4:10.0.0.1:8080``.
        code: gRPC's status number.
        details: the status' text.
        initial: the initial metadata.
    """
    if code != _UNAVAILABLE or initial or not details or not details.startswith(_BEGIN):
        return False
    _, _, named = unquote(details).removeprefix(_BEGIN).partition(": ")  # after a status' name
    return named.startswith(f"{target}: ")
