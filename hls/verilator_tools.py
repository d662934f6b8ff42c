"""Running Verilator and the C++ compiler."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

from hls.cache import cache_folder
from hls.simulate import SimulatorError

OPTIONS = (
    "-O3",
    "-fno-dfg",
    "--x-assign",
    "0",
    "--x-initial",
    "0",
    "--noassert",
    "--no-timing",
    "-Wno-lint",
    "-Wno-style",
)
BUILD = ("-CFLAGS", "-fPIC", "-MAKEFLAGS", "OPT_FAST=-O2 OPT_SLOW=-O0 VM_GLOBAL_FAST= VM_GLOBAL_SLOW=")
"""How the C++ is compiled: what runs every cycle is optimized, set-up is not."""
SPLIT = ("--output-split", "20000")
"""Files of a size that can be compiled side by side."""


@lru_cache
def _tool_version(tool: str) -> str:
    done = subprocess.run([tool, "--version"], capture_output=True, text=True, check=False)
    return done.stdout.splitlines()[0] if done.stdout else "unknown"


def run_tool(command: list[str], what: str) -> str:
    """Standard output of a tool; SimulatorError with the end of its output if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
        raise SimulatorError(f"{what} (exit {done.returncode}):\n{tail}")
    return done.stdout


def content_key(*parts: str) -> str:
    """What these texts, compiled here, are kept under."""
    tools = (_tool_version("verilator"), _tool_version("c++"), platform.machine())
    return hashlib.sha256("\0".join((*parts, *tools)).encode()).hexdigest()[:32]


def runtime_library(trace: bool) -> Path:
    """Verilator's own run-time library as one object, compiled once: it is most of the work for a small netlist."""
    sources = ["verilated", "verilated_threads", *(["verilated_vcd_c"] if trace else [])]
    flags = ["-O2", "-fPIC", "-DVM_COVERAGE=0", "-DVM_SC=0", f"-DVM_TRACE={int(trace)}"]
    folder = cache_folder("verilator")
    library = folder / f"runtime-{content_key(*sources, *flags)}.o"
    if not library.exists():
        folder.mkdir(parents=True, exist_ok=True)
        include = Path(run_tool(["verilator", "--getenv", "VERILATOR_ROOT"], "verilator failed").strip()) / "include"
        flags += [f"-I{include}", f"-I{include / 'vltstd'}"]
        with tempfile.TemporaryDirectory(dir=folder, prefix="build-") as name:
            objects = [str(Path(name) / f"{source}.o") for source in sources]
            for source, output in zip(sources, objects, strict=True):
                what = f"the compiler failed on verilator's {source}.cpp"
                run_tool(["c++", *flags, "-c", str(include / f"{source}.cpp"), "-o", output], what)
            joined = str(Path(name) / "runtime.o")
            run_tool(["c++", "-r", "-nostdlib", *objects, "-o", joined], "the linker failed")
            os.replace(joined, library)
    return library
