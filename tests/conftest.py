"""Settings of all tests."""

import os

from hypothesis import settings

# A deadline per example measures the machine, not the code.
settings.register_profile("local", deadline=None, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")
