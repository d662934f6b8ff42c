"""HBM2 timing and energy, and the address map."""
