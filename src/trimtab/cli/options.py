"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from trimtab.control.config import Address


def addresses(context: click.Context, option: click.Parameter, value: str) -> tuple[Address, ...]:
    """Read one HOST:PORT or several, with commas between them."""
    return tuple(address(context, option, one.strip()) for one in value.split(","))


def address(_context: click.Context, _option: click.Parameter, value: str) -> Address:
    """Read a HOST:PORT."""
    return _read(value)


def listening(_context: click.Context, _option: click.Parameter, value: str) -> Address:
    """Read where to listen: a HOST:PORT, or :PORT for every interface by IPv4 and by IPv6."""
    return _read(value, every="")


def _read(value: str, **how: str) -> Address:
    from trimtab.control.config import parse_address
    from trimtab.errors import ConfigError

    try:
        return parse_address(value, **how)
    except ConfigError as error:
        raise click.BadParameter(str(error)) from None


option = partial(click.option, show_default=True, show_envvar=True)


output_option = option(
    "--output",
    type=click.Choice(["table", "json"]),
    default="table",
    envvar="TRIMTAB_OUTPUT",
    help="A table for people, or JSON for programs.",
)


def admin_server(command: Callable[..., None]) -> Callable[..., None]:
    """How to ask a running control plane: three options, which the command gets as one ``server``."""

    @option(
        "--server",
        metavar="[https://]HOST:PORT",
        default="127.0.0.1:18001",
        envvar="TRIMTAB_ADMIN",
        help="The admin address of a running `trimtab serve`.",
    )
    @option(
        "--token-file",
        type=click.Path(path_type=Path),
        envvar="TRIMTAB_ADMIN_TOKEN_FILE",
        help="A token, where the admin pages need one; over https only.",
    )
    @option(
        "--ca",
        type=click.Path(path_type=Path),
        envvar="TRIMTAB_ADMIN_CA",
        help="PEM of the authorities that vouch for an https server.  [default: the system's]",
    )
    @wraps(command)
    def asking(
        *args: object, server: str, token_file: Path | None, ca: Path | None, **more: object
    ) -> None:
        from trimtab.control.admin_client import AdminServer

        command(*args, server=AdminServer(server, token_file, ca), **more)

    return asking
