"""Options that several commands share."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from trimtab.control.config import Address


def address(_context: click.Context, _option: click.Parameter, value: str) -> Address:
    """Read a HOST:PORT."""
    from trimtab.control.config import parse_address
    from trimtab.errors import ConfigError

    try:
        return parse_address(value)
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
admin_server = option(
    "--server",
    metavar="HOST:PORT",
    default="127.0.0.1:18001",
    envvar="TRIMTAB_ADMIN",
    help="The admin address of a running `trimtab serve`.",
)
