"""Evidence for the Value SRAM."""

from hls.datapaths.operand_sram import build_value
from verification.evidence.operand_sram_checks import checks

CHECKS = checks(build_value, lambda config: config.value_sram_bytes)
