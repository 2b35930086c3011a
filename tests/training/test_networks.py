"""Networks by name: ours, torchvision's, and a user's own."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from detector.errors import InputError
from training.networks import ARCHITECTURES, build, check_name
from training.resnet import ResNet

DEPTHS = (20, 32, 56, 110)


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 13), (1, 28, 28), (3, 32, 32)])
def test_ours_take_images_of_any_size(name: str, shape: tuple[int, int, int]) -> None:
    network = build(name, shape, 7).eval()
    with torch.inference_mode():
        assert network(torch.rand(2, *shape)).shape == (2, 7)


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
@pytest.mark.parametrize(("height", "width"), [(7, 9), (9, 7)])
def test_images_that_are_too_small_are_refused(name: str, height: int, width: int) -> None:
    with pytest.raises(InputError, match=f"images: expected at least 8 x 8 for '{name}', found {height} x {width}"):
        build(name, (1, height, width), 10)


@pytest.mark.parametrize(("depth", "count"), [(20, 272_378), (32, 466_810), (56, 855_674), (110, 1_730_618)])
def test_resnets_have_as_many_parameters_as_the_papers(depth: int, count: int) -> None:
    """0.27, 0.46, 0.85 and 1.7 million (He et al., 2016, Table 6); to the last one, added up by hand.

    A stem 432 + 32, three more blocks a stage 97,216 each n, less where a stage starts narrower, two bare shortcuts
    544 + 2,112, and the head 650.
    """
    n = (depth - 2) // 6
    by_hand = 464 + 97_216 * n - (9_216 - 4_608) - (36_864 - 18_432) + 544 + 2_112 + 650
    network = build(f"resnet{depth}", (3, 32, 32), 10)
    assert sum(parameter.numel() for parameter in network.parameters()) == by_hand == count


@pytest.mark.parametrize("depth", DEPTHS)
def test_resnets_are_as_deep_as_they_are_called(depth: int) -> None:
    network = build(f"resnet{depth}", (3, 32, 32), 10)
    shortcuts = [module for name, module in network.named_modules() if name.endswith("shortcut")]
    weighted = [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.Linear)) and m not in shortcuts]
    assert len(weighted) == depth
    assert [type(shortcut) for shortcut in shortcuts].count(nn.Conv2d) == 2


@pytest.mark.parametrize(("side", "last"), [(8, 2), (28, 7), (32, 8)])
def test_resnets_halve_the_image_twice(side: int, last: int) -> None:
    network = ResNet((3, side, side), 10, depth=20).eval()
    shapes: list[tuple[int, ...]] = []
    for block in network.blocks:
        block.register_forward_hook(lambda _block, _inputs, output: shapes.append(tuple(output.shape[1:])))
    network(torch.rand(1, 3, side, side))
    expected = [(16, side, side)] * 3 + [(32, side // 2, side // 2)] * 3 + [(64, last, last)] * 3
    assert shapes == expected


def test_a_block_is_its_formula() -> None:
    """relu(shortcut(x) + norm(conv(relu(norm(conv(x)))))), of the block that changes shape."""
    block: Any = ResNet((3, 8, 8), 10, depth=20).eval().blocks[3]
    x = torch.rand(2, 16, 8, 8)

    def norm(y: Tensor) -> Tensor:  # untrained, in evaluation mode
        return y / math.sqrt(1 + 1e-5)

    first = torch.relu(norm(nn.functional.conv2d(x, block.first.weight, stride=2, padding=1)))
    second = norm(nn.functional.conv2d(first, block.second.weight, padding=1))
    shortcut = nn.functional.conv2d(x, block.shortcut.weight, block.shortcut.bias, stride=2)
    torch.testing.assert_close(block(x), torch.relu(second + shortcut))


def test_resnets_start_from_hes_normal_weights() -> None:
    torch.manual_seed(0)
    network = ResNet((3, 32, 32), 10, depth=20)
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)) and module.weight.numel() > 2000:
            scaled = module.weight / math.sqrt(2 / module.weight[0].numel())
            assert scaled.mean().abs().item() < 0.08
            assert scaled.std().item() == pytest.approx(1, abs=0.06)
            assert (scaled.abs() > 2).double().mean().item() == pytest.approx(0.0455, abs=0.02)
        if isinstance(module, (nn.Conv2d, nn.Linear)) and module.bias is not None:
            assert not module.bias.any()


@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v3_small", "googlenet"])
def test_torchvisions_by_name_answer_once_in_both_modes(name: str) -> None:
    network = build(name, (3, 32, 32), 7)
    assert network.training
    images = torch.rand(4, 3, 32, 32)
    for mode in (True, False):
        with torch.no_grad():
            assert network.train(mode)(images).shape == (4, 7)


@pytest.mark.parametrize("name", ["mlp", "resnet21", "", "fcos_resnet50_fpn", "ResNet"])
def test_an_unknown_name_is_refused(name: str) -> None:
    message = f"arch: expected one of cnn, resnet110, .*, or an import path such as package.module:Name, found '{name}'"
    with pytest.raises(InputError, match=message):
        check_name(name)
    with pytest.raises(InputError, match=message):
        build(name, (3, 32, 32), 10)


def test_torchvisions_want_colour() -> None:
    with pytest.raises(InputError, match="arch: expected images of 3 channels for torchvision's resnet18, found 1"):
        build("resnet18", (1, 32, 32), 10)


@pytest.mark.parametrize("name", ["squeezenet1_0", "vit_b_16"])
def test_torchvisions_that_want_larger_images_say_so(name: str) -> None:
    with pytest.raises(InputError, match=rf"arch: expected '{name}' to take images of \(3, 8, 8\), found ") as caught:
        build(name, (3, 8, 8), 10)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["Plain", "Dropping", "Flat"])
def test_networks_of_ones_own_by_import_path(name: str) -> None:
    network = build(f"own_networks:{name}", (2, 9, 9), 7)
    assert type(network).__name__ == name
    assert network.training
    assert network(torch.rand(4, 2, 9, 9)).shape == (4, 7)


def test_a_module_in_the_working_directory_is_found(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path_factory.mktemp("here")
    (folder / "lying_here.py").write_text(
        "from torch import nn\n\ndef linear(shape, classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.LazyLinear(classes))\n"
    )
    monkeypatch.setattr("sys.path", ["/nowhere"])
    monkeypatch.chdir(folder)
    assert isinstance(build("lying_here:linear", (1, 8, 8), 10), nn.Sequential)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("no_such_module:Net", "found ModuleNotFoundError: No module named 'no_such_module'"),
        ("own_networks:Missing", "found AttributeError: module 'own_networks' has no attribute 'Missing'"),
        ("own_networks:", "found AttributeError"),
        (":Plain", "found ValueError: Empty module name"),
        ("own_networks:without_arguments", "found TypeError: without_arguments.. takes 0 positional arguments"),
        ("own_networks:no_network", "return a torch.nn.Module, found str"),
        ("own_networks:TwoHeads", r"return \(2, 10\) logits for 2 images, found tuple"),
        ("own_networks:too_few_classes", r"return \(2, 10\) logits for 2 images, found \(2, 9\)"),
    ],
)
def test_what_is_wrong_with_a_network_of_ones_own(path: str, message: str) -> None:
    check_name(path)
    with pytest.raises(InputError, match=f"^arch: expected '{path}' to .*{message}"):
        build(path, (1, 8, 8), 10)
