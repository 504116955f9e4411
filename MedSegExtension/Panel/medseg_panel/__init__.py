"""The Qt panel of MedSeg, one class a section. The only code of MedSeg that imports qt.

It uses only what PythonQt offers in Slicer 5.10 and later: properties without parentheses, signals connected to plain
functions and methods, no threads, no subclasses of Qt classes.
"""
