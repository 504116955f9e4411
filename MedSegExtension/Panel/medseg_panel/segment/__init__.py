"""The section classes of the tab that runs a model and shows its result."""
