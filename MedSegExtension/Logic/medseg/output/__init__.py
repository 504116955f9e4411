"""A `Result` into a folder of files, all at once or not at all."""
