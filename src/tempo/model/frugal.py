"""The frugal stem: a few hundred parameters with which a trained network reads images of twice the size."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from tempo.model.argument_checks import require_side
from tempo.model.initialisation import initialise


class FrugalStem(nn.Module):
    """Two convolutions that halve the sides of the images, before a frozen network.

    Convolution C -> C 7x7, ReLU, convolution C -> C 3x3 with stride 2, ReLU, then the network. For RGB the
    stem has 3*3*7*7 + 3 = 444 and 3*3*3*3 + 3 = 84, together 528 parameters (the `frugal` paper). The paper
    does not give the padding; 3 and 1 here, so that H and W become half, rounded up. Nothing in the frozen
    network changes: it has no gradient, and its norms and dropout work as in evaluation. The state dict has
    the name and fingerprint of the network instead of its values.

    Args:
        input_shape: (C, H, W) of the images before the stem.
        num_classes: classes of the images.
        run: folder of the finished run that trained the network.
        network: that network, in the state that its run tested; passed by `tempo.run.build_network`.
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
        """Switch the stem only; the network stays in evaluation mode."""
        super().train(mode)
        self.network.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [N, num_classes] of float images [N, C, H, W]."""
        return self.network(self.stem(images))

    def get_extra_state(self) -> dict[str, str]:
        """Return the run and fingerprint of the network, for the state dict."""
        return self.stands_on

    def set_extra_state(self, state: Any) -> None:
        """Raise RuntimeError for the state of a stem that was trained with another network."""
        if state.get("weights_sha256") != self.stands_on["weights_sha256"]:
            raise RuntimeError(
                f"the stem was trained in front of the network of {state.get('run')} with weights "
                f"{str(state.get('weights_sha256'))[:12]}, and {self.stands_on['run']} has "
                f"{self.stands_on['weights_sha256'][:12]}"
            )


def _leave_out_network(module: nn.Module, state_dict: dict[str, Any], prefix: str, metadata: Any) -> None:
    for name in [key for key in state_dict if key.startswith(f"{prefix}network.")]:
        del state_dict[name]


def _put_in_network(module: nn.Module, state_dict: dict[str, Any], prefix: str, *unused: Any) -> None:
    assert isinstance(module, FrugalStem)
    for name, value in module.network.state_dict().items():
        # Strict loading asks for every name; these values are the ones that are there already.
        state_dict.setdefault(f"{prefix}network.{name}", value)
