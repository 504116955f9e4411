"""A model as data: its manifest, its package of files, the checks of both, its card, and where models are kept."""
