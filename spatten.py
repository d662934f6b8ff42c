"""The command line: `spatten` and `python -m spatten`.

Exit codes: 0 fine, 1 evidence against the machine, 2 a mistake in the call or in a file.
"""

import json
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from models.config import AcceleratorConfig, Config
from traces.atomic import write_atomically
from traces.reading import describe, read
from traces.trace import TraceError
from verification.configurations import load_on
from verification.console import (
    EVIDENCE_AGAINST,
    JsonOption,
    PresetOption,
    QuietOption,
    print_json,
    progress_bar,
    single_thread,
    user_errors,
)
from verification.run_job import run_data, shipped_workloads

app = typer.Typer(
    help="SpAtten, the sparse-attention accelerator: run it, measure it, check it to the bit.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    add_completion=False,
)


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
        from verification.runs import Setting, strengths

        single_thread()
        configs, machine, name = load_on(config or [], preset)
        settings = [Setting(path.stem, one) for path, one in zip(config or [], configs, strict=True)]
        with progress_bar(quiet) as progress:
            data = run_data(workloads or shipped_workloads(), settings or strengths(machine), machine, name, progress)
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
    if not all(run["within_bounds"] for run in data["runs"]):
        raise typer.Exit(EVIDENCE_AGAINST)


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
    trace: Annotated[
        list[Path] | None, typer.Option(help="Run a trace (.npz) on the netlist of the whole machine instead.")
    ] = None,
    config: Annotated[
        list[Path] | None,
        typer.Option("--config", "-c", help="With --trace: TOML file; may be repeated. Default: four strengths."),
    ] = None,
    memory: Annotated[
        list[str] | None, typer.Option(help="With --trace: hbm2 (default), ideal or adversarial; may be repeated.")
    ] = None,
    preset: Annotated[str, typer.Option(help="With --trace: the machine.")] = "tiny",
    tokens: Annotated[int | None, typer.Option(min=1, help="With --trace: of the input, at most.")] = None,
    generated: Annotated[int | None, typer.Option(min=0, help="With --trace: generation steps, at most.")] = None,
    layers: Annotated[int | None, typer.Option(min=1, help="With --trace: layers, at most.")] = None,
    seed: Annotated[int, typer.Option(help="Of everything that is sampled.")] = 1,
    samples: Annotated[int, typer.Option(min=1, help="Mutants, and other samples, for each datapath.")] = 100,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
    out: Annotated[
        Path, typer.Option(help="Folder for verify.json, verify.xml (JUnit), counterexamples; or equivalence.json.")
    ] = Path("reports/out"),
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Run the evidence for the datapaths: proofs, exhaustive and random comparison with the reference, mutants.

    With `--trace`, a trace on the netlist of the whole machine in lockstep with the reference; a mismatch leaves a
    reproducer. Exit code 1 if any check fails or stays unknown.

    Examples: `spatten verify --block zero_eliminator --samples 1000`,
    `spatten verify --trace my.npz --config mine.toml --preset spatten --memory adversarial`.
    """
    with user_errors():
        from reports.tables import arrivals_table, equivalence_table, mismatches
        from reports.terminal import evidence_table

        if trace:
            from verification.equivalence_job import all_equal
            from verification.evidence_job import verify_traces
            from verification.trace_evidence import Excerpt

            single_thread()
            data = verify_traces(
                trace, config or [], memory or ["hbm2"], preset, Excerpt(tokens, generated, layers), seed, out, quiet
            )
            tables = [equivalence_table(data), arrivals_table(data), *mismatches(data)]
            passed = all_equal(data)
        else:
            from verification.evidence_job import verify_blocks

            results = verify_blocks(block or [], seed, samples, jobs, out, quiet)
            data = json.loads((out / "verify.json").read_text(encoding="utf-8"))
            tables, passed = [evidence_table(data)], all(result.passed for result in results)
    if as_json:
        print_json(data)
    elif not quiet:
        for table in tables:
            Console().print(table)
    if not passed:
        raise typer.Exit(EVIDENCE_AGAINST)


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
        from verification.evidence_job import build_block

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

    `--block accelerator` writes the whole machine, a testbench that replays a recorded layer, and that layer's requests
    to the memory, one a line, for other DRAM simulators. Example: `spatten export --block softmax --out verilog`.
    """
    with user_errors():
        from verification.export_job import export_accelerator, export_block

        with Console(stderr=True, quiet=quiet).status(f"building and simulating {block}"):
            if block == "accelerator":
                files = export_accelerator(preset, out)
            else:
                files = export_block(block, preset, out, cycles, seed)
    if as_json:
        print_json({"files": files})
    elif not quiet:
        Console().print("written: " + ", ".join(files), soft_wrap=True)


@app.command()
def simulate(
    workloads: Annotated[
        list[str],
        typer.Argument(help="Traces (.npz), recorded workloads (.csv), published benchmarks, or e.g. bert-base:384."),
    ],
    config: Annotated[Path | None, typer.Option("--config", "-c", help="TOML: machine, pruning, bits.")] = None,
    preset: PresetOption = "spatten",
    out: Annotated[Path, typer.Option(help="Folder for simulate.json and the timelines.")] = Path("reports/out"),
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Cycles, traffic, utilization and energy of workloads, with the timing of the hardware's own schedules.

    Writes `simulate.json`, and for each workload a timeline `NAME.trace.json` that Perfetto opens. Example:
    `spatten simulate recorded.csv gpt2-small-wikitext2 bert-base:384`.
    """
    with user_errors():
        from reports import simulate_tables
        from verification.simulate_job import simulate_data, usual_setting

        single_thread()
        settings, machine, name = load_on([config] if config else [], preset)
        setting = settings[0] if settings else usual_setting(machine)
        out.mkdir(parents=True, exist_ok=True)
        with progress_bar(quiet) as progress:
            data = simulate_data(workloads, setting, name, out, progress)
        write_atomically(out / "simulate.json", json.dumps(data, indent=1).encode())
    if as_json:
        print_json(data)
    elif not quiet:
        console = simulate_tables.console()
        for part in simulate_tables.render(data):
            console.print(part)
        for result in data["results"]:
            if dropped := result["timeline"]["slices_dropped"]:
                console.print(f"{result['timeline']['file']} ends early: {dropped:,} slices left out", soft_wrap=True)
        console.print(f"written: {out / 'simulate.json'}, and there a timeline of each workload", soft_wrap=True)


@app.command()
def report(
    out: Annotated[Path, typer.Option(help="Folder for the result files, report.md and report.html.")] = Path(
        "reports/out"
    ),
    quick: Annotated[bool, typer.Option("--quick", help="Two strengths, and short excerpts on the netlist.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Run the shipped workloads, check the netlist against the reference, estimate the machine, and report it all.

    Writes `run.json`, `equivalence.json`, `estimate.json`, `simulate.json`, `report.md` and `report.html`. Exit code 1
    if an error exceeds its bound, or the netlist differs from the reference.
    """
    with user_errors():
        from reports import combined, markdown, page, simulate_tables, tables, terminal
        from verification.report_job import results

        single_thread()
        out.mkdir(parents=True, exist_ok=True)
        with progress_bar(quiet) as progress:
            for name, compute in results(quick, out).items():
                progress(0, 1, name)
                write_atomically(out / f"{name}.json", json.dumps(compute(progress), indent=1).encode())
        data = combined.load(out)
        text = markdown.render_evidence(data) + "\n" + markdown.render(data["run"])
        write_atomically(out / "report.md", text.encode())
        write_atomically(out / "report.html", page.render(data).encode())
    if not quiet:
        console = simulate_tables.console()
        console.print(terminal.overview(data["run"]))
        for part in tables.render(data):
            console.print(part)
        console.print(f"written: {out / 'report.html'}, {out / 'report.md'}", soft_wrap=True)
    equal = all(result["equal"] for result in data["equivalence"]["results"])
    if not (equal and all(run["within_bounds"] for run in data["run"]["runs"])):
        raise typer.Exit(EVIDENCE_AGAINST)


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
