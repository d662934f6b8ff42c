"""SpAtten in PyTorch: float attention with cascade pruning, and the same in exact integers."""
