"""Evidence for the zero eliminator of token importances: 16 lanes, values of 32 bits."""

from hls.datapaths.number_formats import IMPORTANCE_BITS
from verification.evidence.zero_eliminator import checks

CHECKS = checks(IMPORTANCE_BITS)
