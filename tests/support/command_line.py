"""The command line in this process: ``trimtab`` with its arguments, without the start of an interpreter."""

import contextlib
import io
import sys

import pytest

from trimtab.cli import run


def in_process(*arguments, env=None):
    """Exit code, stdout, stderr. Not for ``serve``, which takes the process's signals and its log."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["trimtab", *map(str, arguments)])
        for name, value in (env or {}).items():
            patch.setenv(name, value)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                run()
            except SystemExit as end:
                code = end.code or 0
    return code, out.getvalue(), err.getvalue()
