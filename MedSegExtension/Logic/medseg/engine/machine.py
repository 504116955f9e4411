"""What this machine is: its processor, memory and NVIDIA cards, read without a further package."""

from __future__ import annotations

import functools
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

_BYTES_OF_A_CALL = 7 << 30
# What ONNX Runtime and OpenVINO say where memory does not suffice.
_MEMORY_TEXTS = (
    "out of memory", "failed to allocate memory", "bad_alloc", "bad allocation", "cudnn_status_alloc_failed",
    "cublas_status_alloc_failed", "cuda_error_out_of_memory", "8007000e", "e_outofmemory", "not enough memory",
    "insufficient memory", "cl_out_of_resources", "cl_mem_object_allocation_failure", "cl_out_of_host_memory",
    "exceeded max size of memory", "unable to allocate",
)  # fmt: skip


@functools.lru_cache(maxsize=1)
def nvidia_cards() -> tuple[tuple[str, int], ...]:
    """(name, bytes) of each NVIDIA card that this process may use, by ``nvidia-smi``; empty where there is none."""
    rows = nvidia_smi("name,memory.total")
    cards = [(row[0], int(row[1]) << 20 if row[1].isdecimal() else 0) for row in rows if len(row) == 2]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and all(v.strip().isdecimal() for v in visible.split(",") if v):
        cards = [cards[int(v)] for v in visible.split(",") if v and int(v) < len(cards)]
    return tuple(cards)


def calls_at_once(card: int) -> int:
    """How many calls of a network are worth while on an NVIDIA card: 1 to 3, by its memory.

    One call's copies hide behind another's work, each in a stream of its own; each needs memory for its activations.
    """
    cards = nvidia_cards()
    return min(3, max(1, cards[card][1] // _BYTES_OF_A_CALL)) if card < len(cards) else 1


def nvidia_smi(fields: str) -> list[list[str]]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    # No console window may flash up in Slicer on Windows.
    flags = getattr(subprocess, "CREATE_NO_WINDOW", 0)
    try:
        done = subprocess.run(
            [program, f"--query-gpu={fields}", "--format=csv,noheader,nounits"],
            capture_output=True, text=True, timeout=10, check=False, creationflags=flags,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return []
    if done.returncode != 0:
        return []
    return [[c.strip() for c in line.split(",")] for line in done.stdout.splitlines() if line]


@functools.lru_cache(maxsize=1)
def cpu_name() -> str:
    """The processor's name."""
    names = [entry["model name"] for entry in _processors() if "model name" in entry]
    return names[0] if names else platform.processor() or platform.machine() or "CPU"


def _processors() -> list[dict[str, str]]:
    """The blocks of Linux's /proc/cpuinfo; empty elsewhere."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    blocks = [[line.split(":", 1) for line in block.splitlines() if ":" in line] for block in text.split("\n\n")]
    return [{key.strip(): value.strip() for key, value in block} for block in blocks if block]


def total_memory() -> int:
    """Bytes of main memory, 0 where it cannot be told."""
    if sys.platform == "win32":
        import ctypes

        class Status(ctypes.Structure):  # MEMORYSTATUSEX
            _fields_ = [("length", ctypes.c_ulong), ("load", ctypes.c_ulong)] + [
                (f"bytes{n}", ctypes.c_ulonglong) for n in range(7)
            ]

        status = Status()
        status.length = ctypes.sizeof(Status)
        found = ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))
        return int(status.bytes0) if found else 0
    try:
        return int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (ValueError, OSError):
        return 0


@functools.lru_cache(maxsize=1)
def physical_cores() -> int:
    """Physical cores that this process may use (affinity and container quota counted); 0: ONNX Runtime decides."""
    if not hasattr(os, "sched_getaffinity"):
        return 0
    allowed = os.sched_getaffinity(0)
    cores = {
        (entry.get("physical id"), entry["core id"])
        for entry in _processors()
        if "core id" in entry and entry.get("processor", "").isdecimal() and int(entry["processor"]) in allowed
    }
    count = len(cores) or len(allowed)
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()[:2]
        if quota.isdecimal():
            count = min(count, -(-int(quota) // int(period)))
    except (OSError, ValueError):
        pass
    return max(count, 1)


def memory_ran_out(error: Exception) -> bool:
    """Whether ``error``, raised by an engine, says that memory did not suffice."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(t in text for t in _MEMORY_TEXTS)
