"""The small networks. Batch norm throughout: folded at export, and independent of the tile's size."""

from __future__ import annotations

import torch
from torch import nn


def _conv(dims: int, inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    conv, norm = (nn.Conv2d, nn.BatchNorm2d) if dims == 2 else (nn.Conv3d, nn.BatchNorm3d)
    return nn.Sequential(
        conv(inputs, outputs, 3, stride, 1, bias=False), norm(outputs), nn.LeakyReLU(0.01, inplace=True)
    )


class Residual(nn.Module):
    """Two 3x3 convolutions with a skip."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = _conv(2, channels, channels), _conv(2, channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.second(self.first(x))


class SliceClassifier(nn.Module):
    """Strided residual network; mean and maximum over the slice, since a bleed may be small or wide. Logits out."""

    def __init__(self, inputs: int = 3, outputs: int = 6, widths: tuple[int, ...] = (16, 24, 48, 96, 128)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for level, width in enumerate(widths):
            layers.append(_conv(2, inputs, width, stride=2))
            if level >= 2:
                layers.append(Residual(width))
            inputs = width
        self.body = nn.Sequential(*layers)
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(2 * inputs, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.body(x)
        pooled = torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1)
        return self.head(self.drop(pooled))


class UNet(nn.Module):
    """U-Net with two convolutions a level, strided down, transposed up. Logits out; sizes divisible by 2^levels.

    ``shuffle``: blocks of 2x2 pixels (2x2x2 voxels) become channels before the first level and classes after the last,
    which keeps every pixel at a fraction of the cost. ``shuffle=False``: the first level works on the image itself.
    """

    def __init__(
        self,
        dims: int,
        inputs: int,
        outputs: int,
        widths: tuple[int, ...],
        *,
        dropout: float = 0.0,
        shuffle: bool = False,
    ) -> None:
        super().__init__()
        up, last = (nn.ConvTranspose2d, nn.Conv2d) if dims == 2 else (nn.ConvTranspose3d, nn.Conv3d)
        self.before: nn.Module = nn.Identity()
        self.after: nn.Module = nn.Identity()
        if shuffle and dims == 2:
            self.before, self.after = nn.PixelUnshuffle(2), nn.PixelShuffle(2)
            inputs, outputs = 4 * inputs, 4 * outputs
        elif shuffle:  # no such layer in 3D: a learned one
            self.before, inputs = nn.Conv3d(inputs, 8 * inputs, 2, 2), 8 * inputs
        self.down, self.up, self.merge = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for level, width in enumerate(widths):
            self.down.append(nn.Sequential(_conv(dims, inputs, width, 2 if level else 1), _conv(dims, width, width)))
            inputs = width
        for deep, width in zip(widths[:0:-1], widths[-2::-1], strict=True):
            self.up.append(up(deep, width, 2, 2))
            self.merge.append(nn.Sequential(_conv(dims, 2 * width, width), _conv(dims, width, width)))
        self.drop = (nn.Dropout2d if dims == 2 else nn.Dropout3d)(dropout)
        split = shuffle and dims == 3
        self.last = nn.ConvTranspose3d(widths[0], outputs, 2, 2) if split else last(widths[0], outputs, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skips, x = [], self.before(x)
        for block in self.down:
            x = block(x)
            skips.append(x)
        x = self.drop(skips.pop())
        for up, merge in zip(self.up, self.merge, strict=True):
            x = merge(torch.cat([up(x), skips.pop()], dim=1))
        return self.after(self.last(x))


class WithActivation(nn.Module):
    """A network with its activation inside the graph, so that an ONNX file gives probabilities."""

    def __init__(self, network: nn.Module, activation: str) -> None:
        super().__init__()
        self.network, self.activation = network, activation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.network(x)
        return torch.sigmoid(x) if self.activation == "sigmoid" else torch.softmax(x, dim=1)


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())
