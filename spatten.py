"""The command line: `spatten` and `python -m spatten`.

Exit codes: 0 fine, 1 evidence against the machine, 2 a mistake in the call or in a file.
"""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from models.config import PRESETS, AcceleratorConfig, Config, ConfigError, require_choice
from traces.atomic import write_atomically
from traces.reading import describe, read
from traces.trace import Trace, TraceError, TraceFile
from traces.workload import RecordedWorkload

EVIDENCE_AGAINST = 1
USAGE = 2
SHIPPED = Path(__file__).parent / "traces"

app = typer.Typer(
    help="SpAtten, the sparse-attention accelerator: run it, measure it, check it to the bit.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    add_completion=False,
)

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
    except (ConfigError, TraceError, OSError) as error:
        message = Text.assemble(("error:", "bold red"), f" {error}")
        Console(stderr=True).print(message, highlight=False, soft_wrap=True)
        raise typer.Exit(USAGE) from None


@contextmanager
def progress_bar(quiet: bool) -> Iterator[Callable[[int, int, str], None]]:
    """Show on the terminal what is being done; yields the function to report it to."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=quiet) as progress:
        task = progress.add_task("", total=None)
        yield lambda done, total, what: progress.update(task, completed=done, total=total, description=what)


def print_json(data: Any) -> None:
    """Print plain values as JSON on standard output."""
    sys.stdout.write(json.dumps(data, indent=2) + "\n")


@app.callback(invoke_without_command=True)
def top(
    show_version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.", is_eager=True)
    ] = False,
) -> None:
    """Answer `spatten --version`."""
    if show_version:
        print(version("spatten"))
        raise typer.Exit


@app.command()
def run(
    workloads: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Traces (.npz) and recorded workloads (.csv); default: the shipped ones.", show_default=False
        ),
    ] = None,
    config: Annotated[
        list[Path] | None,
        typer.Option("--config", "-c", help="TOML file to run under; may be repeated. Default: four strengths."),
    ] = None,
    preset: PresetOption = "spatten",
    out: Annotated[Path, typer.Option(help="Folder for run.json and run.md.")] = Path("reports/out"),
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Run SpAtten on traces, in exact integers and in float, and report what was pruned, read and how far off it is.

    Writes `run.json` and `run.md` to the `--out` folder. Exit code 1 if an error of the integer path exceeds its
    derived bound.

    Examples: `spatten run`, `spatten run my.npz --config mine.toml`, `spatten run --preset tiny --json`.
    """
    with user_errors():
        # PyTorch takes seconds to import: only the commands that compute wait for it.
        from verification.recorded import recorded_as_json
        from verification.runs import Setting, strengths, summarize

        single_thread()
        machine = AcceleratorConfig.preset(preset)
        settings = [Setting(path.stem, Config.load(path)) for path in config] if config else strengths(machine)
        contents = {path: read(path) for path in workloads or shipped_workloads()}
        traces = [
            trace for content in contents.values() if isinstance(content, TraceFile) for trace in content.sequences
        ]
        with progress_bar(quiet) as progress:
            runs = [summarize(trace, setting, progress) for trace in traces for setting in settings]
        data = {
            "schema": "spatten-run-1",
            "version": version("spatten"),
            "accelerator": {"name": preset, "parameters": asdict(machine)},
            "workloads": [workload_facts(trace) for trace in traces],
            "runs": [summary.as_json() for summary in runs],
            "recorded": [
                recorded_as_json(path.name, content)
                for path, content in contents.items()
                if isinstance(content, RecordedWorkload)
            ],
        }
        from reports import markdown, terminal

        out.mkdir(parents=True, exist_ok=True)
        write_atomically(out / "run.json", json.dumps(data, indent=1).encode())
        write_atomically(out / "run.md", markdown.render(data).encode())
    if as_json:
        print_json(data)
    elif not quiet:
        console = Console()
        for part in terminal.render(data, styled=console.is_terminal):
            console.print(part)
        console.print(f"written: {out / 'run.json'}, {out / 'run.md'}", soft_wrap=True)
    if not all(summary.within_bounds for summary in runs):
        raise typer.Exit(EVIDENCE_AGAINST)


def shipped_workloads() -> list[Path]:
    """Traces and recorded workloads that come with the project."""
    return sorted([*SHIPPED.glob("*.npz"), *SHIPPED.glob("*.csv")])


def workload_facts(trace: Trace) -> dict[str, Any]:
    """What a report says of a trace."""
    return {
        "name": trace.name,
        "kind": trace.kind,
        "model": asdict(trace.model),
        "tokens": trace.tokens,
        "generated": trace.generated,
        "texts": list(trace.token_texts),
    }


@app.command()
def info(
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="Traces (.npz), recorded workloads (.csv), configurations (.toml).", show_default=False),
    ] = None,
    preset: PresetOption = "spatten",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Describe files, or, without any, the machine and what comes with the project.

    Examples: `spatten info`, `spatten info --preset tiny`, `spatten info my.npz recorded.csv mine.toml`.
    """
    with user_errors():
        from hls.datapaths.catalog import BLOCKS

        if files:
            facts = {str(path): describe_file(path) for path in files}
        else:
            facts = {
                f"accelerator {preset}": asdict(AcceleratorConfig.preset(preset)),
                "datapaths": {"blocks": list(BLOCKS)},
                "shipped": {"version": version("spatten"), **{path.name: str(path) for path in shipped_workloads()}},
            }
    show_facts(facts, as_json, quiet)


def describe_file(path: Path) -> dict[str, Any]:
    """Facts of a trace, a recorded workload or a configuration."""
    if path.suffix == ".toml":
        return asdict(Config.load(path))
    return describe(read(path))


@app.command()
def capture(
    model: Annotated[Path, typer.Option(help="Local Hugging Face directory: BERT-, GPT-2- or Llama-type.")],
    text: Annotated[Path, typer.Option(help="UTF-8 text file: an encoder's input, or a decoder's prompt.")],
    out: Annotated[Path, typer.Option(help="Trace file to write (.npz).")],
    generate: Annotated[int, typer.Option(min=0, help="Tokens that a decoder generates after the prompt.")] = 0,
    dtype: Annotated[str, typer.Option(help="float16, or float32 for values beyond it.")] = "float16",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Run a model densely on a text and write down Q, K and V of every token: a trace to replay under any pruning.

    Nothing is loaded from a network. Example: `spatten capture --model DIR --text FILE --generate 32 --out T.npz`.
    """
    with user_errors():
        from traces.capture import capture as capture_trace
        from traces.npz import write_trace

        single_thread()
        if dtype not in ("float16", "float32"):
            raise TraceError(f"is {dtype!r}; should be float16 or float32", where="--dtype")
        with progress_bar(quiet) as progress:
            content = capture_trace(model, {text.stem: read_text(text)}, generate, dtype=dtype, progress=progress)
        write_trace(out, content)
        facts = describe_file(out)
    show_facts({str(out): facts}, as_json, quiet)


@app.command()
def evaluate(
    model: Annotated[Path, typer.Option(help="Local Hugging Face directory: BERT-, GPT-2- or Llama-type.")],
    text: Annotated[Path, typer.Option(help="UTF-8 text: a stream for a decoder, an input a line for an encoder.")],
    keep: Annotated[list[float] | None, typer.Option(help="Share of tokens kept; may be repeated.")] = None,
    config: Annotated[Path | None, typer.Option("--config", "-c", help="TOML: heads, values, scope, bits.")] = None,
    integers: Annotated[bool, typer.Option("--integers", help="Attention in the machine's integers.")] = False,
    prompt: Annotated[int, typer.Option(help="Decoder: tokens of a window read at once, not scored.")] = 64,
    window: Annotated[int, typer.Option(help="Decoder: tokens of a window.")] = 256,
    windows: Annotated[int, typer.Option(help="Decoder: windows of the text to use.")] = 8,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure what pruning costs a model: perplexity, or agreement of embeddings, against the share of tokens kept.

    The method (`importance`) stands beside `per_query` and rules that need no importance: random, most recent, first
    and recent. Example: `spatten evaluate --model DIR --text FILE --keep 0.5 --keep 0.25`.
    """
    with user_errors():
        from verification.evaluation import evaluate_model

        single_thread()
        settings = Config.load(config) if config else Config()
        with progress_bar(quiet) as progress:
            data = evaluate_model(
                model,
                read_text(text),
                keep or (0.7, 0.5, 0.3),
                settings,
                integers=integers,
                prompt=prompt,
                window=window,
                windows=windows,
                progress=progress,
            )
    if as_json:
        print_json(data)
    elif not quiet:
        from reports.terminal import points_table

        Console().print(points_table(data))


BlockOption = Annotated[str, typer.Option("--block", help="A datapath; `spatten info` lists them.")]


@app.command()
def verify(
    block: Annotated[list[str] | None, typer.Option(help="A datapath; may be repeated. Default: all.")] = None,
    seed: Annotated[int, typer.Option(help="Of everything that is sampled.")] = 1,
    samples: Annotated[int, typer.Option(min=1, help="Mutants, and other samples, for each datapath.")] = 100,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
    out: Annotated[Path, typer.Option(help="Folder for verify.json, verify.xml (JUnit), counterexamples.")] = Path(
        "reports/out"
    ),
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Run the evidence for the datapaths: proofs, exhaustive and random comparison with the reference, mutants.

    Exit code 1 if any check fails or stays unknown. Example: `spatten verify --block zero_eliminator --samples 1000`.
    """
    with user_errors():
        from reports.terminal import evidence_table
        from verification.results import Settings, write_json, write_junit
        from verification.runner import available_blocks, rich_progress, run_checks

        for name in block or ():
            require_choice(name.replace("-", "_"), available_blocks(), "block")
        settings = Settings(seed, samples, out / "counterexamples")
        with rich_progress(Console(stderr=True, quiet=quiet)) as progress:
            results = run_checks(block or (), progress=progress, jobs=jobs, settings=settings)
        write_json(results, out / "verify.json", settings)
        write_junit(results, out / "verify.xml")
        data = json.loads((out / "verify.json").read_text(encoding="utf-8"))
    if as_json:
        print_json(data)
    elif not quiet:
        Console().print(evidence_table(data))
    if not all(result.passed for result in results):
        raise typer.Exit(EVIDENCE_AGAINST)


def build_block(name: str, preset: str) -> Any:
    """Netlist of a datapath in the size of a preset.

    Raises:
        ConfigError: for an unknown name; the message has the closest one.
    """
    from hls.datapaths.catalog import BLOCKS

    require_choice(name.replace("-", "_"), tuple(BLOCKS), "block")
    return BLOCKS[name.replace("-", "_")](AcceleratorConfig.preset(preset))


@app.command()
def estimate(
    block: BlockOption,
    preset: PresetOption = "spatten",
    liberty: Annotated[Path | None, typer.Option(help="Your cells (.lib) in the place of the library's gates.")] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Estimate area, delay, register bits and power of a datapath, every figure with its error bar and provenance.

    Example: `spatten estimate --block query_key --preset spatten-1-8`.
    """
    with user_errors():
        from hls import technology
        from hls.estimate_block import estimate_block
        from hls.user_library import load_liberty

        library = load_liberty(liberty) if liberty else technology.load()
        with Console(stderr=True, quiet=quiet).status(f"building {block}"):
            netlist = build_block(block, preset)
            period_ps = AcceleratorConfig.preset(preset).clock_period_ps
            result = estimate_block(netlist.block, library, period_ps, netlist.name)
    if as_json:
        print_json(result.as_dict())
    elif not quiet:
        Console().print(result.table())


@app.command()
def export(
    block: BlockOption,
    out: Annotated[Path, typer.Option(help="Folder to write to.")],
    preset: PresetOption = "spatten",
    cycles: Annotated[int, typer.Option(min=1, help="Cycles of the self-checking testbench.")] = 200,
    seed: Annotated[int, typer.Option(help="Of the testbench's stimulus.")] = 1,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write a datapath as Verilog, with a self-checking testbench and its recorded vectors.

    Example: `spatten export --block zero_eliminator --out verilog`.
    """
    with user_errors():
        from hls.export import export as export_netlist
        from hls.export import random_inputs, record
        from hls.simulate import open_simulator

        with Console(stderr=True, quiet=quiet).status(f"building and simulating {block}"):
            netlist = build_block(block, preset)
            with open_simulator(netlist, "fast") as simulator:
                vectors = record(simulator, random_inputs(netlist, cycles, seed))
            files = [str(file) for file in export_netlist(netlist, out, vectors)]
    if as_json:
        print_json({"files": files})
    elif not quiet:
        Console().print("written: " + ", ".join(files), soft_wrap=True)


def read_text(path: Path) -> str:
    """Text of a UTF-8 file, without the line end that closes it.

    Raises:
        TraceError: for a file that is no text.
    """
    try:
        return path.read_text(encoding="utf-8").removesuffix("\n")
    except UnicodeDecodeError as error:
        raise TraceError(f"is not UTF-8 text at byte {error.start}", path=str(path)) from None


def show_facts(facts: dict[str, dict[str, Any]], as_json: bool, quiet: bool) -> None:
    """Print nested facts as JSON or as tables."""
    if as_json:
        print_json(facts)
    elif not quiet:
        from reports.terminal import facts_table

        for title, content in facts.items():
            Console().print(facts_table(title, content))


def main() -> None:
    """Entry point of the installed command."""
    app(prog_name="spatten")


if __name__ == "__main__":
    main()
