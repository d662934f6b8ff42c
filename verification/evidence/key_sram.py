"""Evidence for the Key SRAM."""

from hls.datapaths.operand_sram import build
from verification.evidence.operand_sram_checks import checks

CHECKS = checks(build, lambda config: config.key_sram_bytes)
