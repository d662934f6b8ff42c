"""The C++ of a composition in Verilator: each netlist compiled once, its instances joined at run time.

Compiled as a whole, every instance has code of its own, and a large design runs at the speed at which code comes from
memory. Here the instances of a module share its code. The order of evaluation is event-driven, and exact:

    edge     every instance that is awake and has state takes the clock edge; then changed outputs go to the inputs
             they drive
    settle   an instance is evaluated again while an input changed on which some of its outputs depends at once

An instance whose inputs do not change is tried now and then: if a clock edge leaves every bit of its state as it was,
so will the next ones, and it sleeps until an input changes.
"""

MODULE_FACE = """
struct Module {
    void* (*create)(void* context, const char* name);
    void (*destroy)(void*);
    void (*eval)(void*);
    void (*edge)(void*);
    void (*reset)(void*, int level);
    Place (*input)(void*, uint32_t port);
    Place (*output)(void*, uint32_t port);
    void* (*state)(void*);
    size_t state_bytes;
};
"""
"""What a compiled module offers."""

MODULE = """
#include "verilated.h"
#include "Vmodule.h"
#include "Vmodule___024root.h"
namespace {
Vmodule* of(void* model) { return static_cast<Vmodule*>(model); }
void* create(void* context, const char* name) {
    auto* top = new Vmodule(static_cast<VerilatedContext*>(context), name);
    top->clk = 0;
    top->eval();
    return top;
}
void destroy(void* model) {
    of(model)->final();
    delete of(model);
}
void eval(void* model) { of(model)->eval(); }
void edge(void* model) {
    @FALL@
    of(model)->clk = 1;
    of(model)->eval();
}
void reset(void* model, int level) { of(model)->rst = level; }
Place input(void* model, uint32_t port) {
    Vmodule* top = of(model);
    const Place places[] = {@INPUTS@};
    return places[port];
}
Place output(void* model, uint32_t port) {
    Vmodule* top = of(model);
    const Place places[] = {@OUTPUTS@};
    return places[port];
}
void* state(void* model) { return of(model)->rootp; }
}
extern "C" const Module module_@KEY@ = {create, destroy, eval, edge, reset, input, output,
                                        state, sizeof(Vmodule___024root)};
"""
"""It, around a model of Verilator."""

INSTANCES = """
#include <algorithm>

#include "verilated.h"

extern "C" {
@MODULES@
}

namespace {
uint32_t load(const uint8_t* from, uint32_t bit, uint32_t bits) {
    uint64_t value = 0;
    const uint32_t first = bit / 8, last = (bit + bits - 1) / 8;
    for (uint32_t i = first; i <= last; ++i) value |= (uint64_t)from[i] << (8 * (i - first));
    return (uint32_t)(value >> (bit % 8)) & (uint32_t)((1ULL << bits) - 1);
}
void store(uint8_t* to, uint32_t bit, uint32_t bits, uint32_t value) {
    const uint32_t first = bit / 8, last = (bit + bits - 1) / 8;
    const uint64_t mask = ((1ULL << bits) - 1) << (bit % 8), shifted = (uint64_t)value << (bit % 8);
    for (uint32_t i = first; i <= last; ++i) {
        const uint8_t m = mask >> (8 * (i - first)), v = shifted >> (8 * (i - first));
        to[i] = (to[i] & ~m) | v;
    }
}
template <typename Word>
bool move_word(uint8_t* to, const uint8_t* from) {
    Word now, then;
    memcpy(&now, from, sizeof now);
    memcpy(&then, to, sizeof then);
    if (now == then) return false;
    memcpy(to, &now, sizeof now);
    return true;
}
bool move(uint8_t* to, const uint8_t* from, size_t bytes) {  // whether it changed anything
    switch (bytes) {
        case 1: return move_word<uint8_t>(to, from);
        case 2: return move_word<uint16_t>(to, from);
        case 4: return move_word<uint32_t>(to, from);
        case 8: return move_word<uint64_t>(to, from);
    }
    if (!memcmp(to, from, bytes)) return false;
    memcpy(to, from, bytes);
    return true;
}
struct Copy {
    uint8_t* to;
    uint32_t from_bit, to_bit, bits;
    int32_t instance;
    bool at_once;
    bool whole;  // of all bits of both ports
    bool apply(const uint8_t* from) const {  // whether it changed anything
        if (whole || (from_bit % 8 == 0 && to_bit % 8 == 0 && bits % 8 == 0))
            return move(to + to_bit / 8, from + from_bit / 8, (bits + 7) / 8);
        bool changed = false;
        for (uint32_t done = 0; done < bits; done += 32) {
            const uint32_t count = bits - done < 32 ? bits - done : 32;
            const uint32_t value = load(from, from_bit + done, count);
            if (value == load(to, to_bit + done, count)) continue;
            store(to, to_bit + done, count, value);
            changed = true;
        }
        return changed;
    }
};
struct Port {
    const uint8_t* data;
    size_t bytes;
    uint8_t seen[8];  // of a port of up to 64 bits
    bool direct;      // one copy, of the whole port: it sees for itself
    std::vector<uint8_t> all_seen;
    std::vector<Copy> copies;
    bool changed() {  // since the last time
        if (direct) return true;
        return move(bytes <= sizeof seen ? seen : all_seen.data(), data, bytes);
    }
};
struct Instance {
    const Module* module;
    void* model;
    std::vector<Port> ports;
    bool clocked;
    std::vector<uint8_t> before;
    bool dirty = true, touched = true, asleep = false;
    uint32_t quiet = 0, patience = 4;
    void edge() {
        const bool still = !touched;
        touched = false;
        if (!still) {
            asleep = false;
            quiet = 0;
        } else if (++quiet >= patience) {
            auto* state = static_cast<uint8_t*>(module->state(model));
            before.assign(state, state + module->state_bytes);
            module->edge(model);
            asleep = !memcmp(before.data(), state, module->state_bytes);
            patience = asleep ? 4 : patience < 4096 ? 2 * patience : patience;
            quiet = 0;
            return;
        }
        module->edge(model);
    }
};
struct Line {
    int32_t from, from_port;
    uint32_t from_bit, bits;
    int32_t to, to_port;
    uint32_t to_bit;
    bool at_once, whole;
};
struct Level {
    int32_t to, to_port;
    uint32_t to_bit, bits, value;
};
const Module* const modules[] = {@MODULE_OF@};
const char* const names[] = {@NAMES@};
const bool clocked[] = {@CLOCKED@};
const uint32_t output_counts[] = {@OUTPUT_COUNTS@};
const Line lines[] = {@LINES@ {0, 0, 0, 0, 0, 0, 0, false, false}};
const Level levels[] = {@LEVELS@ {0, 0, 0, 0, 0}};
const uint32_t in_word[] = {@IN_WORD@}, in_bytes[] = {@IN_BYTES@};
const uint32_t out_word[] = {@OUT_WORD@}, out_bytes[] = {@OUT_BYTES@};

struct Model {
    VerilatedContext context;
    std::vector<Instance> instances;
    std::vector<Port> given;
    uint32_t in[@IN_WORDS@] = {0}, out[@OUT_WORDS@] = {0};
    explicit Model(const char*) {
        for (size_t i = 0; i < @INSTANCES@; ++i) {
            Instance instance{modules[i], modules[i]->create(&context, names[i]), {}, clocked[i]};
            for (uint32_t k = 0; k < output_counts[i]; ++k)
                instance.ports.push_back(port(instance.module->output(instance.model, k)));
            instances.push_back(instance);
        }
        for (size_t k = 0; k < @INPUT_COUNT@; ++k) given.push_back(port(Place{in + in_word[k], in_bytes[k]}));
        for (const auto* l = lines; l->bits; ++l) {
            Port& source = l->from < 0 ? given[l->from_port] : instances[l->from].ports[l->from_port];
            source.copies.push_back({input(l->to, l->to_port), l->from_bit, l->to_bit, l->bits, l->to, l->at_once,
                                     l->whole});
        }
        for (auto& instance : instances) {
            auto& ports = instance.ports;
            ports.erase(std::remove_if(ports.begin(), ports.end(), [](const Port& p) { return p.copies.empty(); }),
                        ports.end());
            for (auto& port : ports) port.direct = port.copies.size() == 1 && port.copies[0].whole;
        }
        for (const auto* l = levels; l->bits; ++l) store(input(l->to, l->to_port), l->to_bit, l->bits, l->value);
        for (auto& instance : instances) instance.module->eval(instance.model);
        for (auto& instance : instances) spread(instance);
    }
    static Port port(Place place) {
        const size_t kept = place.bytes <= sizeof Port::seen ? 0 : place.bytes;
        return Port{static_cast<const uint8_t*>(place.data), place.bytes, {}, false, std::vector<uint8_t>(kept), {}};
    }
    uint8_t* input(int32_t instance, int32_t port) {
        if (instance < 0) return reinterpret_cast<uint8_t*>(out + out_word[port]);
        return static_cast<uint8_t*>(instances[instance].module->input(instances[instance].model, port).data);
    }
    void spread(Port& port) {
        if (!port.changed()) return;
        for (const auto& copy : port.copies) {
            if (copy.apply(port.data) && copy.instance >= 0) {
                instances[copy.instance].touched = true;
                if (copy.at_once) instances[copy.instance].dirty = true;
            }
        }
    }
    void spread(Instance& instance) {
        for (auto& port : instance.ports) spread(port);
    }
    void relax() {
        for (bool again = true; again;) {
            again = false;
            for (auto& instance : instances) {
                if (!instance.dirty) continue;
                instance.dirty = false;
                instance.module->eval(instance.model);
                spread(instance);
                again = true;
            }
        }
    }
    void reset(int level) {
        for (auto& instance : instances) {
            instance.module->reset(instance.model, level);
            instance.dirty = instance.touched = true;
        }
    }
    void settle(const uint32_t* row) {
        memcpy(in, row, sizeof in);
        for (auto& port : given) spread(port);
        relax();
    }
    std::vector<Instance*> moved;
    void edge() {
        moved.clear();
        for (auto& instance : instances) {
            if (!instance.clocked || (instance.asleep && !instance.touched)) continue;
            instance.edge();
            moved.push_back(&instance);
        }
        for (auto* instance : moved) spread(*instance);
        relax();
    }
    void read(uint32_t* row) { memcpy(row, out, sizeof out); }
    Place place(uint32_t output) { return Place{out + out_word[output], out_bytes[output]}; }
    void close() {
        for (auto& instance : instances) instance.module->destroy(instance.model);
    }
};
}
"""
"""The `Model` of a composition: its instances and what they drive."""
