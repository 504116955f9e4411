"""The child process that runs models for Slicer, and how requests and arrays travel to it."""
