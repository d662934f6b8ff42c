"""All datapaths by name, for the commands that take a block."""

from collections.abc import Callable

from hls.datapaths import query_key
from hls.lower import Netlist
from models.config import AcceleratorConfig

Builder = Callable[[AcceleratorConfig], Netlist]

BLOCKS: dict[str, Builder] = {
    "query_key": query_key.build,
}
