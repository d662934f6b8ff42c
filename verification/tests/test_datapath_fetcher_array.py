"""The fetcher as a switch and instances of one queue does what it does in one netlist."""

from hls.compose import Composer, concat
from hls.datapaths import fetcher, fetcher_array
from hls.flatten import flatten
from hls.lower import Netlist
from verification.evidence.fetcher_model import fetch_patterns
from verification.tests.datapath_machines import machine

TINY = machine("tiny")


def flattened() -> Netlist:
    whole = fetcher.build(TINY)
    composer = Composer("fetcher_parts")
    parts = fetcher_array.add(composer, TINY)
    for name, bits in whole.inputs.items():
        source = composer.input(name, bits)
        if name != "out_ready":
            composer.connect(parts.switch.name, name, source)
            continue
        for q, queue in enumerate(parts.queues):
            composer.connect(queue.name, "word_ready", source[q])
    of_words = {name: name for name in ("word", "offset", "word_first", "word_last", "waiting")}
    of_words["out_valid"] = "word_valid"
    for name in whole.outputs:
        queues = concat(*[queue[of_words[name]] for queue in parts.queues]) if name in of_words else None
        composer.output(name, parts.switch[name] if queues is None else queues)
    return flatten(composer.build())


def test_parts_are_the_whole():
    parts, whole = flattened(), fetcher.build(TINY)
    assert (parts.inputs, parts.outputs) == (whole.inputs, whole.outputs)
    assert parts.register_bits == whole.register_bits
    done = [fetch_patterns(TINY, netlist, 100, seed=4, longest=5) for netlist in (parts, whole)]
    assert done[0] == done[1] > 250


def test_queues_are_one_module():
    composer = Composer("fetcher_parts")
    parts = fetcher_array.add(composer, TINY)
    assert len({id(queue.netlist) for queue in parts.queues}) == 1
    assert len(parts.queues) == TINY.fetch_queues
