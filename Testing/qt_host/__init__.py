"""A Qt host for the panel: PySide6 seen as PythonQt shows Qt, beside the real MRML classes of ``slicer-core``.

``start()`` puts ``qt``, ``ctk`` and what the application adds to ``slicer`` into ``sys.modules`` and gives a `Host`.
Nothing outside Testing/ imports this package. README.md beside this file lists each stand-in and what it leaves out.
"""

from .host import Host, start

__all__ = ["Host", "start"]
