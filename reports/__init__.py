"""Reports rendered from result files alone."""
