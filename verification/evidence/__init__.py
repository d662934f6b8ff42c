"""The evidence of each block: one module a block, named after it, with a constant tuple `CHECKS`."""
