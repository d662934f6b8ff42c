"""All datapaths by name, for the commands that take a block."""

from collections.abc import Callable

from hls.datapaths import (
    bitwidth_converter,
    flat_decision,
    head_importance,
    probability_value,
    query_key,
    softmax,
    token_importance,
    zero_eliminator,
)
from hls.lower import Netlist
from models.config import AcceleratorConfig

Builder = Callable[[AcceleratorConfig], Netlist]

BLOCKS: dict[str, Builder] = {
    "bitwidth_converter": bitwidth_converter.build,
    "flat_decision": flat_decision.build,
    "head_importance": head_importance.build,
    "probability_value": probability_value.build,
    "query_key": query_key.build,
    "softmax": softmax.build,
    "token_importance": token_importance.build,
    "zero_eliminator": zero_eliminator.build,
    "zero_eliminator_importance": zero_eliminator.build_importance,
}
