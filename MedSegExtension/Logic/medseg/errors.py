"""Errors that a user sees. Each says what is wrong, with which file or node, and what to do.

The command line turns the class into its exit code (``exit_code``); the worker sends class name and
sentence to the panel. Anything that is not a ``MedSegError`` is a fault in MedSeg itself.
"""

from __future__ import annotations


class MedSegError(Exception):
    """Base of all errors that are meant to be read by a user."""

    exit_code = 1


class InputError(MedSegError):
    """A volume, file or option cannot be used: not an image, wrong dimension, NaN, bad geometry."""

    exit_code = 2


class OutputError(InputError):
    """The result cannot be written: not writable, disk full, already there."""


class ModelError(MedSegError):
    """A model package cannot be used: manifest, hash, tensors, opset, unsafe content."""

    exit_code = 3


class DeviceError(MedSegError):
    """The network could not be run on any device that was allowed."""

    exit_code = 4


class Cancelled(MedSegError):
    """The user stopped the run."""

    exit_code = 130
