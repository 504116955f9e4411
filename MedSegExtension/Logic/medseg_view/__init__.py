"""``medseg view``: a page in the browser on this computer, with Slicer's own views (trame, trame-slicer).

Needs ``pip install "medseg[view]"``. The run is that of the command line and of the panel, in the worker process.
"""
