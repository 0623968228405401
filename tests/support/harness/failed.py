"""How a client's call ends without an answer."""


class Failed(Exception):  # noqa: N818 - what it says is the error's text
    """The text says why."""
