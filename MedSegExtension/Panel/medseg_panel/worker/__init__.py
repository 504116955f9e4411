"""The worker's other end: its process and the requests to it."""
