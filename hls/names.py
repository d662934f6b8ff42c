"""Names of ports, values and modules: identifiers that Verilog and SystemVerilog leave free."""

from __future__ import annotations

import re

from hls.types import HlsError

_RESERVED = """
always and assign automatic begin buf bufif0 bufif1 case casex casez cell cmos config deassign default
defparam design disable edge else end endcase endconfig endfunction endgenerate endmodule endprimitive
endspecify endtable endtask event for force forever fork function generate genvar highz0 highz1 if ifnone
incdir include initial inout input instance integer join large liblist library localparam macromodule
medium module nand negedge nmos nor noshowcancelled not notif0 notif1 or output parameter pmos posedge
primitive pull0 pull1 pulldown pullup pulsestyle_onevent pulsestyle_ondetect rcmos real realtime reg
release repeat rnmos rpmos rtran rtranif0 rtranif1 scalared showcancelled signed small specify specparam
strong0 strong1 supply0 supply1 table task time tran tranif0 tranif1 tri tri0 tri1 triand trior trireg
unsigned use vectored wait wand weak0 weak1 while wire wor xnor xor bit byte logic int shortint longint
do return break continue static interface modport class enum struct union typedef package import export
string void this super new null priority unique final assert assume cover property sequence global local
const context ref var type expect inside matches tagged with within program checker bind before
first_match iff let nexttime until virtual clk rst

alignas alignof auto bool catch char constexpr decltype delete double explicit false float friend goto
inline long main mutable namespace noexcept nullptr operator private public short sizeof template throw true
try typeid typename using volatile
"""  # Verilog, the SystemVerilog that many tools read by default, C++ (compiled simulators), our clock and reset
KEYWORDS = frozenset(_RESERVED.split())


def check_identifier(name: str, what: str) -> str:
    """`name` itself; HlsError with the nearest name that works if it is no free identifier."""
    if re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) and name not in KEYWORDS:
        return name
    near = re.sub(r"\W", "_", name, flags=re.ASCII) or what
    near = f"{near}_" if near in KEYWORDS else near if not near[0].isdigit() else f"n{near}"
    raise HlsError(f"{what} name {name!r} is no free Verilog identifier; {near!r} would do")
