"""The C++ between Python and a model compiled by Verilator: single cycles, batches, streams, and sessions with taps.

All inputs of a cycle lie in one row of 32-bit words, port after port; outputs the same way.
"""

from __future__ import annotations

from collections.abc import Mapping

from hls.simulate import Design, word_count

PLACES = """
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

struct Place {
    void* data;
    size_t bytes;
    bool any() const {
        auto* bytes_of = static_cast<const unsigned char*>(data);
        for (size_t i = 0; i < bytes; ++i)
            if (bytes_of[i]) return true;
        return false;
    }
    size_t words() const { return (bytes + 3) / 4; }
    uint32_t* copy(uint32_t* to) const {
        to[words() - 1] = 0;
        memcpy(to, data, bytes);
        return to + words();
    }
};
"""
"""Bits of a port, in memory."""

_MODEL = """
#include "verilated.h"
#include "Vtop.h"
#if VM_TRACE
#include "verilated_vcd_c.h"
#endif

static inline void put(CData& d, const uint32_t* s) { d = s[0]; }
static inline void put(SData& d, const uint32_t* s) { d = s[0]; }
static inline void put(IData& d, const uint32_t* s) { d = s[0]; }
static inline void put(QData& d, const uint32_t* s) { d = s[0] | (uint64_t)s[1] << 32; }
template <std::size_t N> static inline void put(VlWide<N>& d, const uint32_t* s) { memcpy(d.data(), s, 4 * N); }
static inline void get(const CData& v, uint32_t* d) { d[0] = v; }
static inline void get(const SData& v, uint32_t* d) { d[0] = v; }
static inline void get(const IData& v, uint32_t* d) { d[0] = v; }
static inline void get(const QData& v, uint32_t* d) { d[0] = (uint32_t)v; d[1] = (uint32_t)(v >> 32); }
template <std::size_t N> static inline void get(const VlWide<N>& v, uint32_t* d) { memcpy(d, v.data(), 4 * N); }

struct Model {
    VerilatedContext context;
    std::unique_ptr<Vtop> top;
#if VM_TRACE
    std::unique_ptr<VerilatedVcdC> vcd;
#endif
    explicit Model(const char* path) {
        context.traceEverOn(path[0] != 0);
        top.reset(new Vtop{&context});
#if VM_TRACE
        if (path[0]) {
            vcd.reset(new VerilatedVcdC);
            top->trace(vcd.get(), 99);
            vcd->open(path);
        }
#endif
    }
    void dump() {
#if VM_TRACE
        if (vcd) vcd->dump(context.time());
#endif
        context.timeInc(1);
    }
    void reset(int level) { top->rst = level; }
    void settle(const uint32_t* in) {
        top->clk = 0;
@PUT@
        top->eval();
        dump();
    }
    void edge() {
        top->clk = 1;
        top->eval();
        dump();
    }
    void read(uint32_t* out) {
@GET@
    }
    Place place(uint32_t output) {
        const Place places[] = {@PLACES@};
        return places[output];
    }
    void close() {
#if VM_TRACE
        if (vcd) vcd->close();
#endif
        top->final();
    }
};
"""

FACE = """
namespace {
struct Tap {
    std::vector<Place> fire, data;
    size_t words;
    std::vector<uint64_t> cycles;
    std::vector<uint32_t> log;
};
struct Session {
    std::vector<Place> watched, ends, taken;
    std::vector<Tap> taps;
    std::vector<uint32_t> before, final;
    uint64_t cycle = 0;
    bool ended = false;
};
struct Simulation : Model {
    Session session;
    using Model::Model;
    std::vector<Place> places(const uint32_t* outputs, uint64_t count) {
        std::vector<Place> found;
        for (uint64_t i = 0; i < count; ++i) found.push_back(place(outputs[i]));
        return found;
    }
    void watch(uint32_t* to) {
        for (const auto& port : session.watched) to = port.copy(to);
    }
    void tap() {
        for (auto& tap : session.taps) {
            bool fires = true;
            for (const auto& port : tap.fire) fires = fires && port.any();
            if (!fires) continue;
            tap.cycles.push_back(session.cycle);
            size_t end = tap.log.size();
            tap.log.resize(end + tap.words);
            uint32_t* to = tap.log.data() + end;
            for (const auto& port : tap.data) to = port.copy(to);
        }
    }
};
}

extern "C" {
Simulation* simulation_new(const char* vcd) { return new Simulation(vcd); }
void simulation_reset(Simulation* s, const uint32_t* in) {
    s->reset(1);
    s->settle(in);
    s->edge();
    s->reset(0);
}
void simulation_run(Simulation* s, const uint32_t* in, uint32_t* out, uint64_t cycles) {
    for (uint64_t t = 0; t < cycles; ++t, in += @IN_WORDS@, out += @OUT_WORDS@) {
        s->settle(in);
        s->read(out);
        s->edge();
    }
}
uint64_t simulation_stream(Simulation* s, const uint32_t* items, uint64_t count, const uint8_t* offer,
                           const uint8_t* accept, uint64_t limit, uint32_t* out, uint64_t* sent_at,
                           uint64_t* received_at, uint64_t* received) {
    (void)items, (void)count, (void)offer, (void)accept, (void)limit;
    (void)out, (void)sent_at, (void)received_at, (void)received;
@STREAM@
}
/* A session is a run of single cycles with watched outputs, taps, and an output that ends it (see hls.session). */
void session_new(Simulation* s, const uint32_t* watched, uint64_t count, const uint32_t* ends, uint64_t end_count,
                 const uint32_t* taken, uint64_t taken_count) {
    s->session = Session();
    s->session.watched = s->places(watched, count);
    s->session.ends = s->places(ends, end_count);
    s->session.taken = s->places(taken, taken_count);
    size_t words = 0;
    for (const auto& port : s->session.watched) words += port.words();
    s->session.before.resize(words);
    s->session.final.resize(@OUT_WORDS@);
}
void session_tap(Simulation* s, const uint32_t* fire, uint64_t fire_count, const uint32_t* data, uint64_t data_count) {
    Tap tap;
    tap.fire = s->places(fire, fire_count);
    tap.data = s->places(data, data_count);
    tap.words = 0;
    for (const auto& port : tap.data) tap.words += port.words();
    s->session.taps.push_back(tap);
}
void session_begin(Simulation* s, const uint32_t* in, uint32_t* watched) {
    s->settle(in);
    s->watch(watched);
}
uint64_t session_cycle(Simulation* s, const uint32_t* in, uint32_t* watched) {
    auto& session = s->session;
    s->settle(in);
    s->watch(session.before.data());
    uint64_t flags = memcmp(session.before.data(), watched, 4 * session.before.size()) ? 4 : 0;
    s->tap();
    for (const auto& port : session.ends) flags |= port.any() ? 1 : 0;
    for (const auto& port : session.taken) flags |= port.any() ? 2 : 0;
    session.ended = flags & 1;
    if (session.ended) s->read(session.final.data());
    s->edge();
    ++session.cycle;
    s->watch(watched);
    return flags;
}
uint64_t session_log(Simulation* s, uint64_t tap, const uint64_t** cycles, const uint32_t** words) {
    const auto& t = s->session.taps[tap];
    *cycles = t.cycles.data();
    *words = t.log.data();
    return t.cycles.size();
}
void session_outputs(Simulation* s, uint32_t* out) {
    if (s->session.ended) memcpy(out, s->session.final.data(), 4 * s->session.final.size());
    else s->read(out);
}
void simulation_delete(Simulation* s) {
    s->close();
    delete s;
}
}
"""
"""What Python calls, on a `Model`."""

_STREAM = """
    static const uint32_t idle[@IN_WORDS@] = {0};
    uint32_t row[@IN_WORDS@], result[@OUT_WORDS@];
    uint64_t sent = 0, got = 0, t = 0;
    for (; t < limit && got < count; ++t) {
        bool valid = sent < count && offer[t];
        memcpy(row, valid ? items + sent * @IN_WORDS@ : idle, sizeof row);
        row[@VALID@] = valid;
        row[@READY@] = accept[t];
        s->settle(row);
        s->read(result);
        if (valid && result[@IN_READY@]) sent_at[sent++] = t;
        if (accept[t] && result[@OUT_VALID@]) {
            memcpy(out + got * @OUT_WORDS@, result, sizeof result);
            received_at[got++] = t;
        }
        s->edge();
    }
    *received = got;
    return t;
"""


def layout(ports: Mapping[str, int]) -> tuple[dict[str, tuple[int, int]], int]:
    """First word and number of words of each port in a row, and the words of a row (at least 1)."""
    places, position = {}, 0
    for name, bits in ports.items():
        places[name] = (position, word_count(bits))
        position += word_count(bits)
    return places, max(1, position)


def driver_text(netlist: Design, model: str | None = None) -> str:
    """C++ of the functions by which Python drives a design, on its one Verilator model or on the text of another."""
    inputs, in_words = layout(netlist.inputs)
    outputs, out_words = layout(netlist.outputs)
    handshake = "in_valid" in inputs and "out_ready" in inputs and "in_ready" in outputs and "out_valid" in outputs
    text = PLACES + (_MODEL if model is None else model) + FACE
    text = text.replace("@STREAM@", _STREAM if handshake else "    return 0;")
    if handshake:
        places = {"VALID": inputs["in_valid"], "READY": inputs["out_ready"]}
        places |= {"IN_READY": outputs["in_ready"], "OUT_VALID": outputs["out_valid"]}
        for key, (word, _) in places.items():
            text = text.replace(f"@{key}@", str(word))
    put = "\n".join(f"        put(top->{name}, in + {word});" for name, (word, _) in inputs.items())
    get = "\n".join(f"        get(top->{name}, out + {word});" for name, (word, _) in outputs.items())
    text = text.replace("@PUT@", put).replace("@GET@", get)
    members = "".join(f"{{&top->{name}, sizeof top->{name}}}, " for name in outputs)
    text = text.replace("@PLACES@", f"{members}{{nullptr, 0}}")
    return text.replace("@IN_WORDS@", str(in_words)).replace("@OUT_WORDS@", str(out_words))
