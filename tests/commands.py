"""The command line in this process: what a command prints, and the status that it leaves with."""

from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO

from app.cli import main


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        return self.stdout + self.stderr


def sluice(*arguments: str) -> Ended:
    """Run `sluice` with these arguments. It runs a loop of its own: use a thread without one."""
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            main(arguments)
            code: object = 0
        except SystemExit as left:
            code = left.code or 0
    assert isinstance(code, int)
    return Ended(code, out.getvalue(), err.getvalue())
