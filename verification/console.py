"""What every command of the command line shares: options, error messages, progress, JSON."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from hls.types import HlsError
from models.config import PRESETS, ConfigError
from models.transaction.workload import WorkloadError
from traces.trace import TraceError

EVIDENCE_AGAINST = 1
USAGE = 2

JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON instead of tables.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]
PresetOption = Annotated[str, typer.Option("--preset", help=f"The machine: {', '.join(PRESETS)}.")]


def single_thread() -> None:
    """Keep PyTorch to one thread: the tensors are small, and threads that wait for each other cost more than they give.

    Two threads on a busy machine of two cores were seen to take 60 times longer than one.
    """
    import torch

    torch.set_num_threads(1)


@contextmanager
def user_errors() -> Iterator[None]:
    """Turn what a user got wrong into one line and exit code 2."""
    try:
        yield
    except (ConfigError, TraceError, WorkloadError, HlsError, OSError) as error:
        of_a_file = isinstance(error, OSError) and error.filename and error.strerror
        what = f"{error.filename}: {error.strerror}" if of_a_file else str(error)  # type: ignore[union-attr]
        message = Text.assemble(("error:", "bold red"), f" {what}")
        Console(stderr=True).print(message, highlight=False, soft_wrap=True)
        raise typer.Exit(USAGE) from None


@contextmanager
def progress_bar(quiet: bool) -> Iterator[Callable[[int, int, str], None]]:
    """Show on the terminal what is being done; yields the function to report it to."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    hidden = quiet or not console.is_terminal  # it would leave an empty line
    with Progress(*columns, console=console, transient=True, disable=hidden) as progress:
        task = progress.add_task("", total=None)
        yield lambda done, total, what: progress.update(task, completed=done, total=total, description=what)


def print_json(data: Any) -> None:
    """Print plain values as JSON on standard output."""
    sys.stdout.write(json.dumps(data, indent=2) + "\n")
