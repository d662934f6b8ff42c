"""Widths of numbers that are the same in every configuration (algorithm page, sections 2, 3 and 7)."""

PROBABILITY_BITS = 12
IMPORTANCE_BITS = 32
"""Of a token's cumulative importance."""
HEAD_SCORE_BITS = 48
"""Of a head's cumulative importance; engine A selects heads too, its items are that wide."""
