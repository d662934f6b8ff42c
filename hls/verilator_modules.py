"""Verilator models of a composition: every netlist compiled once and cached, joined by `hls.verilator_instances`."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hls.cache import cache_folder
from hls.combinational import dependence_edges
from hls.compose import Composition
from hls.lower import Netlist
from hls.sources import Source
from hls.verilator_driver import PLACES, driver_text, layout
from hls.verilator_instances import INSTANCES, MODULE, MODULE_FACE
from hls.verilator_tools import BUILD, OPTIONS, SPLIT, content_key, run_tool, runtime_library
from hls.verilog import to_verilog


def _members(ports: dict[str, int]) -> str:
    return "".join(f"{{&top->{name}, sizeof top->{name}}}, " for name in ports) + "{nullptr, 0}"


def _previous_clock(header: str) -> str | None:
    """The member in which Verilator keeps the clock of the last evaluation."""
    found = set(re.findall(r"\b(__Vtrig\w*prev\w*__clk)\b", header))
    return found.pop() if len(found) == 1 else None


def module_object(netlist: Netlist) -> tuple[Path, str]:
    """One module compiled as an object, from the cache or now, and the key under which its functions are known."""
    verilog = to_verilog(netlist)
    face = MODULE.replace("@INPUTS@", _members(netlist.inputs)).replace("@OUTPUTS@", _members(netlist.outputs))
    key = content_key(verilog, PLACES, MODULE_FACE, face, *OPTIONS, *SPLIT, *BUILD)
    folder = cache_folder("verilator")
    library = folder / f"{netlist.name}-{key}.o"
    if library.exists():
        return library, key
    folder.mkdir(parents=True, exist_ok=True)
    include = Path(run_tool(["verilator", "--getenv", "VERILATOR_ROOT"], "verilator failed").strip()) / "include"
    with tempfile.TemporaryDirectory(dir=folder, prefix="build-") as name:
        work = Path(name)
        make = work / "make"
        (work / "module.v").write_text(verilog, encoding="utf-8")
        what = f"verilator failed on {netlist.name}"
        command = ["verilator", "--cc", "--build", "-j", str(os.cpu_count() or 1), *OPTIONS]
        command += ["--prefix", f"V{key}", "--top-module", netlist.name, "--Mdir", str(make)]
        command += [*SPLIT, *BUILD]
        run_tool([*command, str(work / "module.v")], what)
        member = _previous_clock((make / f"V{key}___024root.h").read_text(encoding="utf-8"))
        fall = f"of(model)->rootp->{member} = 0;" if member else "of(model)->clk = 0; of(model)->eval();"
        text = (PLACES + MODULE_FACE + face).replace("@FALL@", fall).replace("@KEY@", key)
        (make / "face.cpp").write_text(text.replace("Vmodule", f"V{key}"), encoding="utf-8")
        flags = ["-O2", "-fPIC", "-DVM_COVERAGE=0", "-DVM_SC=0", "-DVM_TRACE=0", f"-I{include}", f"-I{include}/vltstd"]
        run_tool(["c++", *flags, f"-I{make}", "-c", str(make / "face.cpp"), "-o", str(make / "face.o")], what)
        objects = [str(path) for path in make.glob("*.o") if not path.name.startswith("verilated")]
        run_tool(["c++", "-r", "-nostdlib", *objects, "-o", str(work / "module.o")], what)
        os.replace(work / "module.o", library)
    return library, key


def _order(composition: Composition) -> list[str]:
    """Parts, those first on whose outputs others depend at once, as far as there is such an order."""
    needs: dict[str, list[str]] = {part: [] for part in composition.parts}
    for (part, _), sources in dependence_edges(composition).items():
        needs[part] += [source[0] for source, _ in sources]
    done: dict[str, None] = {}
    seen: set[str] = set()
    for root in needs:
        stack = [(root, iter(needs[root]))] if root not in seen else []
        seen.add(root)
        while stack:
            part, rest = stack[-1]
            following = next((p for p in rest if p not in seen), None)
            if following is None:
                done[part] = None
                stack.pop()
            else:
                seen.add(following)
                stack.append((following, iter(needs[following])))
    return list(done)


def _tables(composition: Composition, order: list[str]) -> tuple[list[str], list[str]]:
    """C++ rows of all connections and of all constants."""
    number = {part: i for i, part in enumerate(order)}
    outputs = {part: list(netlist.outputs) for part, netlist in composition.parts.items()}
    lines: list[str] = []
    levels: list[str] = []

    def drive(to: int, port: int, source: Source, at_once: bool) -> None:
        position = 0
        for piece in source.pieces:
            if piece.is_constant:
                for low in range(0, piece.bits, 32):
                    bits = min(32, piece.bits - low)
                    value = (piece.low >> low) & ((1 << bits) - 1)
                    levels.append(f"{{{to}, {port}, {position + low}, {bits}, {value}u}}")
            else:
                at = outputs[piece.part].index(piece.port) if piece.part else list(composition.inputs).index(piece.port)
                origin = number[piece.part] if piece.part else -1
                whole = piece.part and to >= 0 and composition.parts[piece.part].outputs[piece.port] == source.bits
                flags = (str(bool(flag)).lower() for flag in (at_once, whole and len(source.pieces) == 1))
                row = (origin, at, piece.low, piece.bits, to, port, position, *flags)
                lines.append(f"{{{', '.join(map(str, row))}}}")
            position += piece.bits

    for part, netlist in composition.parts.items():
        at_once = {port for inputs in composition.dependence[id(netlist)].values() for port in inputs}
        for i, port in enumerate(netlist.inputs):
            drive(number[part], i, composition.connections[part][port], port in at_once)
    for i, source in enumerate(composition.drivers.values()):
        drive(-1, i, source, False)
    return lines, levels


def _model(composition: Composition, keys: dict[int, str]) -> str:
    """C++ of the composition on top of its modules."""
    order = _order(composition)
    lines, levels = _tables(composition, order)
    parts = composition.parts
    places = {"IN": layout(composition.inputs)[0], "OUT": layout(composition.outputs)[0]}
    values: dict[str, Iterator[str] | list[str]] = {
        "MODULE_OF": [f"&module_{keys[id(parts[part])]}" for part in order],
        "NAMES": [f'"{part}"' for part in order],
        "CLOCKED": [str(any(net.op in "r@" for net in parts[part].block.logic)).lower() for part in order],
        "OUTPUT_COUNTS": [str(len(parts[part].outputs)) for part in order],
        "LINES": [f"{line}," for line in lines],
        "LEVELS": [f"{level}," for level in levels],
    }
    for side, at in places.items():
        values[f"{side}_WORD"] = [*(str(word) for word, _ in at.values()), "0"]
        values[f"{side}_BYTES"] = [*(str(4 * count) for _, count in at.values()), "0"]
    text = MODULE_FACE + INSTANCES.replace(
        "@MODULES@", "".join(f"extern const Module module_{key};\n" for key in sorted(set(keys.values())))
    )
    text = text.replace("@INSTANCES@", str(len(order))).replace("@INPUT_COUNT@", str(len(composition.inputs)))
    for key, items in values.items():
        text = text.replace(f"@{key}@", ("\n" if key in ("LINES", "LEVELS") else ", ").join(items))
    return text


def build_modules(composition: Composition) -> Path:
    """The compiled simulator of a composition, from the cache or built now, module by module."""
    acyclic = composition.acyclic
    modules = {id(netlist): netlist for netlist in acyclic.modules}
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        built = dict(zip(modules, pool.map(module_object, modules.values()), strict=True))
    driver = driver_text(composition, _model(acyclic, {netlist: key for netlist, (_, key) in built.items()}))
    folder = cache_folder("verilator")
    flags = ["-O3", "-fPIC", "-shared", "-DVM_COVERAGE=0", "-DVM_SC=0", "-DVM_TRACE=0"]
    library = folder / f"{composition.name}-{content_key(driver, *flags)}.so"
    if library.exists():
        return library
    include = Path(run_tool(["verilator", "--getenv", "VERILATOR_ROOT"], "verilator failed").strip()) / "include"
    with tempfile.TemporaryDirectory(dir=folder, prefix="build-") as name:
        work = Path(name)
        (work / "driver.cpp").write_text(driver, encoding="utf-8")
        flags += [f"-I{include}", f"-I{include}/vltstd", "-o", str(work / "simulator.so"), str(work / "driver.cpp")]
        objects = sorted({str(path) for path, _ in built.values()})
        run_tool(
            ["c++", *flags, *objects, str(runtime_library(False)), "-lpthread"],
            f"the compiler failed on {composition.name}",
        )
        os.replace(work / "simulator.so", library)
    return library
