"""The network's input as nodes beside the volume: named, in place, with a window that shows it."""

from __future__ import annotations

from typing import Any

import numpy as np

from medseg import Grid, Result
from medseg_mrml import network_view_nodes, volume_from_node
from support.mrml_samples import volume


def view(value: float) -> Result:
    given = volume()
    size = tuple(max(2, n // 2) for n in given.grid.size)
    spacing = tuple(2 * s for s in given.grid.spacing)
    grid = Grid(size, spacing, given.grid.origin, given.grid.direction)
    return Result(grid, (), {"image": np.linspace(0, value, int(np.prod(size)), dtype=np.float32).reshape(grid.shape)})


def test_the_node_lies_where_the_network_sees_it_and_is_filled_anew(scene: Any, reference: Any) -> None:
    (node,) = network_view_nodes(view(3.0), scene, reference_node=reference, title="Model")
    assert node.GetName() == f"{reference.GetName()} as Model sees it"
    seen = volume_from_node(node)
    assert seen.grid.same_as(view(3.0).grid) and seen.array.max() == 3.0
    assert (node.GetDisplayNode().GetWindow(), node.GetDisplayNode().GetLevel()) == (3.0, 1.5)
    (again,) = network_view_nodes(view(5.0), scene, reference_node=reference, title="Model")
    assert again is node and volume_from_node(node).array.max() == 5.0
