"""All datapaths by name, for the commands that take a block."""

from collections.abc import Callable

from hls.datapaths import (
    bitwidth_converter,
    crossbar,
    fetcher,
    flat_decision,
    head_importance,
    operand_sram,
    probability_value,
    query_key,
    softmax,
    token_importance,
    top_k,
    write_back,
    zero_eliminator,
)
from hls.lower import Netlist
from models.config import AcceleratorConfig

Builder = Callable[[AcceleratorConfig], Netlist]

BLOCKS: dict[str, Builder] = {
    "address_crossbar": crossbar.build,
    "bitwidth_converter": bitwidth_converter.build,
    "data_crossbar": crossbar.build_data,
    "fetcher": fetcher.build,
    "flat_decision": flat_decision.build,
    "head_importance": head_importance.build,
    "key_sram": operand_sram.build,
    "probability_value": probability_value.build,
    "query_key": query_key.build,
    "softmax": softmax.build,
    "token_importance": token_importance.build,
    "top_k": top_k.build,
    "top_k_probability": top_k.build_probability,
    "value_sram": operand_sram.build_value,
    "write_back": write_back.build,
    "zero_eliminator": zero_eliminator.build,
    "zero_eliminator_importance": zero_eliminator.build_importance,
}
