"""The residual networks of the paper: ResNet-20, -32, -56 and -110 for small images (He et al., 2016, Section 4.2).

Version 1 with the details of the authors' code, which the tables rest on: weights drawn by He's normal
rule, and a shortcut that changes shape is a bare 1 x 1 convolution. Batch normalisation has torch's constants.
"""

from typing import Final, cast

from torch import Tensor, nn
from torch.nn import functional

_WIDTHS: Final = (16, 32, 64)


class ResNet(nn.Module):
    """Three stages of residual blocks, then the mean over the image: (N, C, H, W) float32 to (N, L) logits.

    Args:
        image_shape: C, H, W.
        classes: L.
        depth: Layers with weights along the longest way, 6n + 2 for n blocks a stage.
    """

    def __init__(self, image_shape: tuple[int, int, int], classes: int, *, depth: int) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        self.stem = nn.Conv2d(image_shape[0], _WIDTHS[0], 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(_WIDTHS[0])
        stages: list[nn.Module] = []
        inputs = _WIDTHS[0]
        for width in _WIDTHS:
            for block in range(blocks):
                stages.append(_Block(inputs, width, stride=2 if block == 0 and width != _WIDTHS[0] else 1))
                inputs = width
        self.blocks = nn.Sequential(*stages)
        self.head = nn.Linear(inputs, classes)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        hidden = self.blocks(functional.relu(self.norm(self.stem(images))))
        return cast("Tensor", self.head(hidden.mean(dim=(2, 3))))


class _Block(nn.Module):
    """Two 3 x 3 convolutions around a shortcut."""

    def __init__(self, inputs: int, outputs: int, *, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(outputs)
        same = stride == 1 and inputs == outputs
        self.shortcut: nn.Module = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        hidden = functional.relu(self.first_norm(self.first(x)))
        hidden = self.second_norm(self.second(hidden))
        return functional.relu(hidden + self.shortcut(x))
