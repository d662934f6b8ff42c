"""Small faults, planted one at a time in netlists and dataflow graphs."""
