"""The command line: ``spatten`` and ``python -m spatten``."""
