"""The frugal stem: with a few hundred parameters, a trained network reads images of twice the size."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from tempo.model.initialisation import initialise
from tempo.model.refusals import require_side


class FrugalStem(nn.Module):
    """Two convolutions that halve the sides of the images, in front of a trained network that stays as it is.

    Convolution C -> C 7x7, ReLU, convolution C -> C 3x3 with stride 2, ReLU, then the frozen network. The
    stem keeps the C channels that the network was trained on, so for RGB it has 3*3*7*7 + 3 = 444 and
    3*3*3*3 + 3 = 84, together 528 parameters (the `frugal` paper). The paper is silent on padding; 3 and 1
    here, so that H and W become half, rounded up. Nothing of the frozen network moves: no gradient, running
    statistics and dropout as in evaluation. Its values are not in the state dict, which names it instead.

    Args:
        input_shape: (C, H, W) of the images that come in.
        num_classes: classes of the images.
        run: folder of the finished run whose network stands behind the stem.
        network: that network, with the state that its run tested; passed by `tempo.run.build_network`.
        network_sha256: fingerprint of that state; passed by `tempo.run.build_network`.
    """

    def __init__(
        self,
        *,
        input_shape: tuple[int, int, int],
        num_classes: int,
        run: str,
        network: nn.Module,
        network_sha256: str,
    ) -> None:
        super().__init__()
        require_side(name="frugal", input_shape=input_shape, smallest_side=2, why="halving the sides")
        channels = input_shape[0]
        self.num_classes = num_classes
        self.stands_on = {"run": run, "weights_sha256": network_sha256}
        self.stem = nn.Sequential(
            nn.Conv2d(channels, channels, kernel_size=7, padding=3),
            nn.ReLU(),
            nn.Conv2d(channels, channels, kernel_size=3, stride=2, padding=1),
            nn.ReLU(),
        )
        initialise(self.stem)
        self.network = network.requires_grad_(False).eval()
        self.register_state_dict_post_hook(_leave_out_network)
        self.register_load_state_dict_pre_hook(_put_in_network)

    def train(self, mode: bool = True) -> FrugalStem:
        """Switch the stem; the network behind it stays in evaluation mode."""
        super().train(mode)
        self.network.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Float images [N, C, H, W] -> logits [N, num_classes]."""
        return self.network(self.stem(images))

    def get_extra_state(self) -> dict[str, str]:
        """Which run's network the stem was trained for; kept in the state dict."""
        return self.stands_on

    def set_extra_state(self, state: Any) -> None:
        """Refuse a stem that was trained in front of another network."""
        if state.get("weights_sha256") != self.stands_on["weights_sha256"]:
            raise RuntimeError(
                f"the stem was trained in front of the network of {state.get('run')} with weights "
                f"{str(state.get('weights_sha256'))[:12]}, and {self.stands_on['run']} has "
                f"{self.stands_on['weights_sha256'][:12]}"
            )


def _leave_out_network(module: nn.Module, state_dict: dict[str, Any], prefix: str, metadata: Any) -> None:
    for name in [each for each in state_dict if each.startswith(f"{prefix}network.")]:
        del state_dict[name]


def _put_in_network(module: nn.Module, state_dict: dict[str, Any], prefix: str, *unused: Any) -> None:
    assert isinstance(module, FrugalStem)
    for name, value in module.network.state_dict().items():
        state_dict.setdefault(f"{prefix}network.{name}", value)
