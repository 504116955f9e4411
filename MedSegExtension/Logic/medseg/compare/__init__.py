"""Results held against a reference, a second reader, another model or another date."""
