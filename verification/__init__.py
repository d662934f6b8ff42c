"""The evidence that the levels agree."""
