"""Who one is for an API server: headers, and for some a client certificate."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from trimtab.errors import DiscoveryError


class Credentials(Protocol):
    """Something that proves who one is."""

    async def headers(self, *, refused: bool) -> Mapping[str, str]:
        """For the next request; ``refused``: those given last were answered with 401.

        Raises:
            DiscoveryError: there are none to be had.
        """

    async def pair(self) -> tuple[bytes, bytes] | None:
        """A client certificate and its key; None if there is none of its own."""


def bearer(token: str, where: str) -> dict[str, str]:
    """The header that carries a token.

    Args:
        token: the token.
        where: what names it, for messages.

    Raises:
        DiscoveryError: no header may hold it. The token is not in the text.
    """
    if not all("!" <= character <= "~" for character in token):
        raise DiscoveryError(
            f"{where}: holds a space, a line break or another character that no token may have; give "
            "the token alone"
        )
    return {"Authorization": f"Bearer {token}"}


class Fixed:
    """Headers that never change."""

    def __init__(self, headers: Mapping[str, str] | None = None) -> None:
        self._headers = dict(headers or {})

    @classmethod
    def basic(cls, username: str, password: str) -> Fixed:
        """Name and password."""
        text = base64.b64encode(f"{username}:{password}".encode()).decode()
        return cls({"Authorization": f"Basic {text}"})

    async def headers(self, *, refused: bool) -> Mapping[str, str]:  # noqa: ARG002 - none others
        """Always the same."""
        return self._headers

    async def pair(self) -> None:
        """None of its own."""


class TokenFile:
    """A bearer token in a file that others write: it is read for each request.

    The kubelet replaces a pod's token before it ends; so no token is ever sent that is older than
    its file.
    """

    def __init__(self, path: Path, field: str) -> None:
        self._path = path
        self._field = field

    async def headers(self, *, refused: bool) -> Mapping[str, str]:  # noqa: ARG002 - always fresh
        """The token as it is now."""
        try:
            token = self._path.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not text"
            raise DiscoveryError(f"{self._field}: {self._path}: cannot be read: {why}") from None
        if not token:
            raise DiscoveryError(f"{self._field}: {self._path}: is empty; it must hold a token")
        return bearer(token, f"{self._field}: {self._path}")

    async def pair(self) -> None:
        """None of its own."""
