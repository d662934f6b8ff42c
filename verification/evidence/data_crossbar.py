"""Evidence for the data crossbar."""

from hls.datapaths.crossbar import build_data, data_size
from verification.evidence.crossbar_checks import checks

CHECKS = checks(build_data, data_size)
