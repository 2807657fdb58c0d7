"""An immunized network under the names that its author gave its parts."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from immunization.networks.backbones._backbone import Backbone, Layer, Tail

Key = tuple[int, torch.Size]


class Double(nn.Linear):
    """A linear layer that computes in double precision, whatever it is given."""

    def forward(self, features: Tensor) -> Tensor:
        """Outputs in float64."""
        return super().forward(features.double())


def key_of(tensor: Tensor) -> Key:
    """What tells a tensor from others that share no memory with it."""
    return tensor.data_ptr(), tensor.shape


def names_of(model: nn.Module) -> dict[Key, str]:
    """Names of a network's tensors, by where they lie; taken before it is cut."""
    return {key_of(value): name for name, value in model.state_dict().items()}


def with_own_names(names: dict[Key, str], parts: nn.Module) -> dict[str, str]:
    """For each tensor of a part of a network, its name in the whole."""
    return {
        name: names[key_of(value)]
        for name, value in parts.state_dict().items()
        if key_of(value) in names
    }


@dataclass(frozen=True)
class OwnNames:
    """Names in the whole network of the tensors of its parts, taken right after it was cut.

    Attributes:
        body: of the backbone's tensors.
        head: dotted name of the head.
    """

    body: dict[str, str]
    head: str

    @staticmethod
    def of(names: dict[Key, str], backbone: Backbone, head: nn.Linear) -> OwnNames:
        """From `names_of` before the cut, and the parts, which share its tensors."""
        weight = with_own_names(names, head)["weight"]
        return OwnNames(with_own_names(names, backbone), weight.removesuffix(".weight"))

    def state(self, backbone: Backbone, tail: Tail, head: nn.Linear) -> dict[str, Tensor]:
        """Tensors of an immunized network by their own names.

        A method that adds a layer Θ before the head has it in HEAD.layer, and the head in
        HEAD.head, both in float64 (see `insert_layer`).

        Args:
            backbone: with θ₀'s weights.
            tail, head: what was made of them.
        """
        whole = backbone.state_dict()
        whole |= {f"tail.{name}": value for name, value in tail.tail.state_dict().items()}
        state = {own: whole[name] for name, own in self.body.items()}
        values = head.state_dict()
        if isinstance(tail.layer, Layer):
            state[f"{self.head}.layer.weight"] = tail.layer.theta.detach().mT
            state |= {f"{self.head}.head.{name}": v.double() for name, v in values.items()}
        else:
            state |= {f"{self.head}.{name}": value for name, value in values.items()}
        return {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}


def insert_layer(model: nn.Module, head_name: str) -> None:
    """Put a layer before the head, in place, so that a state with one can be loaded."""
    head = model.get_submodule(head_name)
    assert isinstance(head, nn.Linear)
    both: OrderedDict[str, nn.Module] = OrderedDict(
        layer=Double(head.in_features, head.in_features, bias=False),
        head=nn.Linear(head.in_features, head.out_features, bias=head.bias is not None),
    )
    model.set_submodule(head_name, nn.Sequential(both).double())
