"""Runs the registered evidence of blocks.

A block registers by a module of `verification.evidence` named after it, with a module-level constant
`CHECKS: tuple[Check, ...]`; modules beside it without that constant are its helpers. A check that raises
becomes UNKNOWN, as does one whose process dies, and the others go on.
"""

import difflib
import importlib
import multiprocessing
import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from verification import evidence
from verification.equivalence.verdict import unknown
from verification.results import Check, Result, Settings

Reporter = Callable[[int, int, Result], None]


def available_blocks() -> tuple[str, ...]:
    """Names of the blocks that have evidence, in alphabetic order; no module is imported for that."""
    folders = [Path(folder) for folder in evidence.__path__]
    sources = sorted(path for folder in folders for path in folder.glob("*.py"))
    return tuple(p.stem for p in sources if re.search(r"^CHECKS\b", p.read_text(encoding="utf-8"), re.MULTILINE))


def checks_of(block: str) -> tuple[Check, ...]:
    """The checks of a block (`-` and `_` are the same); ValueError names the closest if there is none."""
    name = block.replace("-", "_")
    blocks = available_blocks()
    if name not in blocks:
        near = difflib.get_close_matches(name, blocks, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(blocks) or 'none'}"
        raise ValueError(f"no block {block!r} has evidence; {hint}")
    checks: tuple[Check, ...] = importlib.import_module(f"{evidence.__name__}.{name}").CHECKS
    repeated = {c.name for c in checks if [d.name for d in checks].count(c.name) > 1}
    if not checks or repeated:
        raise ValueError(
            f"block {block!r}: {f'checks named twice: {sorted(repeated)}' if checks else 'CHECKS is empty'}"
        )
    return checks


def run_check(block: str, check: Check, settings: Settings) -> Result:
    """Run one check; an exception is UNKNOWN."""
    started = time.monotonic()
    try:
        verdict = check.run(settings)
    except Exception as error:
        verdict = unknown(f"raised {type(error).__name__}: {error}")
    return Result(block, check.name, check.method, verdict, check.least, time.monotonic() - started)


def _run_by_name(block: str, name: str, settings: Settings) -> Result:
    check = next(c for c in checks_of(block) if c.name == name)
    return run_check(block, check, settings)


def _finished(future: "Future[Result]", block: str, check: Check) -> Result:
    try:
        return future.result()
    except BrokenProcessPool:
        verdict = unknown("the process that ran it died (killed, or out of memory)")
        return Result(block, check.name, check.method, verdict, check.least, 0.0)


def run_checks(
    blocks: Sequence[str] = (),
    seed: int = 1,
    samples: int = 100,
    progress: Reporter = lambda done, total, result: None,
    *,
    jobs: int = 1,
    settings: Settings | None = None,
) -> list[Result]:
    """Results of all checks of the blocks (none named: all blocks), in the order of registration.

    `samples` is what sampling checks use, such as mutants a block. `jobs` processes share the work. `settings`
    replaces `seed` and `samples`. Raises ValueError for a block without evidence.
    """
    settings = settings or Settings(seed=seed, samples=samples)
    work = [(b.replace("-", "_"), check) for b in (blocks or available_blocks()) for check in checks_of(b)]
    if jobs == 1:
        results = []
        for block, check in work:
            results.append(run_check(block, check, settings))
            progress(len(results), len(work), results[-1])
        return results
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=jobs, mp_context=context) as pool:
        # mutants take longest: begun last, one of them would keep a single process busy at the end
        longest_first = sorted(work, key=lambda item: item[1].method != "mutation")
        futures = {pool.submit(_run_by_name, b, check.name, settings): (b, check) for b, check in longest_first}
        found: dict[tuple[str, str], Result] = {}
        for done, future in enumerate(as_completed(futures), 1):
            block, check = futures[future]
            found[(block, check.name)] = _finished(future, block, check)
            progress(done, len(work), found[(block, check.name)])
    return [found[(block, check.name)] for block, check in work]


@contextmanager
def rich_progress(console: Console | None = None) -> Iterator[Reporter]:
    """A reporter that shows a bar, and a line for each result that does not pass.

    Where there is no terminal to show a bar, a line for each result, with the seconds it took.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("verify", total=None)

        def report(done: int, total: int, result: Result) -> None:
            bar.update(task, completed=done, total=total, description=f"{result.block}: {result.name}")
            line = f"{result.block}: {result.name}: {result.verdict}"
            if not result.passed:
                bar.console.print(f"{line}: {result.verdict.detail}", style="red", markup=False)
            elif not bar.console.is_terminal:
                bar.console.print(f"{done}/{total} {line} in {result.seconds:.1f} s", markup=False, soft_wrap=True)

        yield report
