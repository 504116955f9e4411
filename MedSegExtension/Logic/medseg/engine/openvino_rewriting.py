"""Networks of fixed sizes rewritten for OpenVINO, so that they need less arithmetic for the same values.

All of it is equal to the original in exact arithmetic, so results differ by the rounding of floats only; Winograd's
method (`winograd`) rounds more than the original does and is for float32 only, the others (`transposed_convolutions`)
round as it does.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from . import transposed_convolutions, winograd

JOINED = "transposed convolutions joined with the convolution behind them"
BLOCKS = "transposed convolutions done as convolutions to blocks of voxels"
WINOGRAD = "convolutions by Winograd's method"
#: Raised where networks come out otherwise, so that what was found of speed and labels is found again.
REVISION = 1


def rewrite(model: Any, *, exact: bool = False) -> Counter[str]:
    """Change an OpenVINO ``model`` of fixed sizes; how often each of `JOINED`, `BLOCKS`, `WINOGRAD` was done.

    ``exact``: nothing is done that rounds more than the original.
    """
    from openvino import passes

    # Biases come as constants that are reshaped by sizes known by now.
    manager = passes.Manager()
    manager.register_pass(passes.ConstantFolding())
    manager.run_passes(model)
    done: Counter[str] = Counter()
    for node in model.get_ordered_ops():
        done[JOINED] += transposed_convolutions.join(node, exact=exact)
    for node in model.get_ordered_ops():
        done[BLOCKS] += transposed_convolutions.to_blocks(node)
    if not exact:
        done[WINOGRAD] = winograd.rewrite(model)
    model.validate_nodes_and_infer_types()
    return +done


def words(done: Counter[str]) -> str:
    """What was done as a sentence, "" where nothing was."""
    if not done:
        return ""
    parts = ", ".join(f"{count} {kind}" for kind, count in done.items())
    return f"OpenVINO runs it rewritten, equal but for the rounding of floats: {parts}."
