"""Any network cut by the names of its modules: torch.fx follows its forward pass, and no further
than to the modules that are named, so that what lies inside the others may be anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from immunization.networks.backbones._backbone import Backbone
from immunization.networks.backbones._cut import CLOSE, stirred
from immunization.runtime.errors import UserError
from immunization.runtime.spelling import near_spelling


@dataclass(frozen=True)
class Names:
    """Where a network is cut.

    Attributes:
        tail: modules that are immunized, in the order of the forward pass; the cut is before the
            first. What follows it up to the head belongs to the tail too, and stays as it is.
        head: the linear layer that gives the logits.
    """

    tail: tuple[str, ...]
    head: str


def resolved_names(model: nn.Module, tail: str | Sequence[str], head: str, what: str) -> Names:
    """Check names against a network; a head that contains linear layers stands for its last.

    Raises:
        UserError: for a name that the network has not, a head without a linear layer, or a tail
            without parameters.
    """
    known = dict(model.named_modules())
    tails = (tail,) if isinstance(tail, str) else tuple(tail)
    for key, names in (("tail", tails), ("head", (head,))):
        for name in names:
            if not name or name not in known:
                near = near_spelling(name, list(known))
                children = ", ".join(child for child, _ in model.named_children())
                raise UserError(
                    f"{what}, key '{key}': the network has no module '{name}'{near}. Its children "
                    f"are {children}; dotted names go deeper."
                )
    inside = [name for name, module in known[head].named_modules() if isinstance(module, nn.Linear)]
    if not inside:
        raise UserError(
            f"{what}, key 'head': '{head}' is {type(known[head]).__name__} and holds no linear "
            "layer. A probe on the features is linear; name the layer that gives the logits."
        )
    linear = ".".join(filter(None, [head, inside[-1]]))
    for name in tails:
        if not any(True for _ in known[name].parameters()):
            raise UserError(f"{what}, key 'tail': '{name}' has no parameters to immunize.")
        if linear == name or linear.startswith(f"{name}."):
            raise UserError(
                f"{what}, key 'tail': '{name}' {'is' if linear == name else 'contains'} the head. "
                "Leave it out: the head is trained along."
            )
    return Names(tails, linear)


class _Tracer(fx.Tracer):
    """Goes into the modules that contain one of the names, and no others."""

    def __init__(self, names: Names) -> None:
        super().__init__()
        self._stops = (*names.tail, names.head)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether a module is one step of the graph."""
        inner = f"{module_qualified_name}."
        return not any(stop.startswith(inner) for stop in self._stops)


def traced(model: nn.Module, names: Names, what: str) -> fx.Graph:
    """The graph of the forward pass.

    Raises:
        UserError: where it depends on values, so that there is no single one.
    """
    try:
        return _Tracer(names).trace(model)
    except Exception as error:  # whatever a forward pass does with what stands for a tensor
        raise UserError(
            f"{what}: the forward pass of {type(model).__name__} cannot be followed "
            f"({type(error).__name__}: {first_line(error)}). Where it branches on values or loops "
            "over a tensor, move that into a module of its own; or write a file that builds a "
            "Backbone: immunization new backbone NAME."
        ) from error


def first_line(error: Exception) -> str:
    """Of an error's message; some have none."""
    return next(iter(str(error).splitlines()), "")


def cut_at(model: nn.Module, names: Names, what: str) -> tuple[Backbone, nn.Linear]:
    """Trunk, tail and head of a network, which share its modules and their names.

    Raises:
        UserError: where something passes the cut by, or follows the head.
    """
    graph = traced(model, names, what)
    order = list(graph.nodes)
    first = _first(order, names.tail[0], what, "tail")
    last = _first(order, names.head, what, "head")
    output = next(node for node in order if node.op == "output")
    if _before_nothing(model, output.args[0]) is not last:
        raise UserError(
            f"{what}: something follows the head '{names.head}'. What the network returns has to "
            "be its logits."
        )
    (features,) = _inputs(last, what, names.head)
    (entry,) = _inputs(first, what, names.tail[0])
    before = _needed(entry)
    after = _needed(features, stop=entry)
    passing = [
        node for node in after if node in before and node is not entry and node.op != "get_attr"
    ]
    if passing or first not in after:
        which = f" ('{passing[0].name}')" if passing else ""
        raise UserError(
            f"{what}, key 'tail': something passes '{names.tail[0]}' by{which}, such as a skip "
            "connection. Cut where a single tensor goes through, earlier or later."
        )
    trunk = _part(model, order, before, None, entry)
    tail = _part(model, order, after, entry, features)
    head = model.get_submodule(names.head)
    assert isinstance(head, nn.Linear)
    freeze_all_but(tail, names.tail)
    return Backbone(trunk, tail, head.in_features), head


def _before_nothing(model: nn.Module, node: Any) -> Any:
    """The node whose value a result has, past what changes no logits; the forward pass of a copy
    shows whether it is so."""
    while isinstance(node, fx.Node) and len(node.all_input_nodes) == 1:
        if node.op == "call_module":
            module = model.get_submodule(str(node.target))
            if not isinstance(module, nn.Identity | nn.Flatten | nn.Dropout):
                break
        elif node.target not in (torch.flatten, "flatten"):
            break
        node = node.all_input_nodes[0]
    return node


def freeze_all_but(module: nn.Module, names: Sequence[str]) -> None:
    """Make buffers of all parameters that lie in none of the named modules; names stay."""
    for path, part in module.named_modules():
        if any(path == name or path.startswith(f"{name}.") for name in names):
            continue
        for name, value in list(part.named_parameters(recurse=False)):
            del part._parameters[name]
            part.register_buffer(name, value.detach())


def _first(order: list[fx.Node], name: str, what: str, key: str) -> fx.Node:
    for node in order:
        target = str(node.target)
        if node.op == "call_module" and (target == name or target.startswith(f"{name}.")):
            return node
    raise UserError(f"{what}, key '{key}': the forward pass does not call '{name}'.")


def _inputs(node: fx.Node, what: str, name: str) -> tuple[fx.Node]:
    if len(node.all_input_nodes) != 1 or len(node.args) != 1 or node.kwargs:
        raise UserError(f"{what}: '{name}' takes more than one tensor; cut elsewhere.")
    return (node.all_input_nodes[0],)


def _needed(node: fx.Node, stop: fx.Node | None = None) -> set[fx.Node]:
    """A node and all that it is computed from, no further than to another."""
    todo, seen = [node], set()
    while todo:
        one = todo.pop()
        if one not in seen:
            seen.add(one)
            if one is not stop:
                todo.extend(one.all_input_nodes)
    return seen


def _part(
    model: nn.Module, order: list[fx.Node], wanted: set[fx.Node], entry: fx.Node | None,
    result: fx.Node,
) -> nn.Module:  # fmt: skip
    """Some nodes as a module; a node that is the entry becomes its argument."""
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in order:
        if node is entry:
            copies[node] = graph.placeholder("activations")
        elif node in wanted:
            copies[node] = graph.node_copy(node, lambda old: copies[old])
    graph.output(copies[result])
    return fx.GraphModule(model, graph, class_name="Part")


def traced_cut(model: nn.Module, names: Names, size: int, what: str) -> tuple[Backbone, nn.Linear]:
    """The same, checked by one forward pass of a copy whose weights were stirred.

    Raises:
        UserError: where the network does not take images of that size, or its parts compute
            something else.
    """
    import copy

    trial = stirred(copy.deepcopy(model)).eval()
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        try:
            wanted: Any = trial(images)
        except Exception as error:
            raise UserError(
                f"{what}: the network does not take images of {size}×{size} pixels with three "
                f"channels ({type(error).__name__}: {first_line(error)})."
            ) from error
        if not isinstance(wanted, Tensor) or wanted.ndim != 2:
            shape = tuple(wanted.shape) if isinstance(wanted, Tensor) else type(wanted).__name__
            raise UserError(f"{what}: the network returns {shape}; logits (images, classes) are "
                            "needed.")  # fmt: skip
        backbone, head = cut_at(trial, names, what)
        logits = head(backbone.eval().features(backbone.trunk(images)))
    apart = float((logits - wanted).norm() / wanted.norm().clamp_min(1e-30))
    if not apart <= CLOSE:
        raise UserError(
            f"{what}: cut into trunk, tail and head it computes something else; its logits differ "
            f"by {apart:.2g} of their norm."
        )
    return cut_at(model, names, what)
