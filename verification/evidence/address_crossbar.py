"""Evidence for the address crossbar."""

from hls.datapaths.crossbar import address_size, build
from verification.evidence.crossbar_checks import checks

CHECKS = checks(build, address_size)
