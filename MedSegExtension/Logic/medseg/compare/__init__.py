"""Results held against a reference."""
