"""What ``trimtab.debug`` says of one service."""

import gc

import trimtab


def rows(service="orders.shop:80"):
    """By endpoint, the words of its line."""
    gc.collect()  # channels of other tests that were dropped
    text = trimtab.debug()
    assert text.count(f"{service}: ") == 1, text
    lines = text[text.index(f"{service}: ") :].split("\n\n")[0].splitlines()
    return {line.split()[0]: line.split() for line in lines[2:] if ":" in line.split()[0]}
