"""The evidence of each block: a module named after it with a constant tuple `CHECKS`, and helpers beside it."""
