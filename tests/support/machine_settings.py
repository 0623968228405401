"""How long state machines of Hypothesis run: quick in ``make test``, as long as one likes on demand.

``TRIMTAB_MACHINE_STEPS=100000`` has each machine run until that many steps were possible.
"""

import os

from hypothesis import settings

STEPS = 25


def machine_settings(examples, steps=STEPS, **more):
    """Settings of a machine.

    Args:
        examples: how many runs there are by default.
        steps: the most steps of one run.
    """
    wanted = int(os.environ.get("TRIMTAB_MACHINE_STEPS", "0"))
    runs = max(examples, -(-wanted // steps))
    return settings(max_examples=runs, stateful_step_count=steps, deadline=None, **more)
