"""Build an aggregator by name."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch

from wsi_mil.aggregators.base import ALL_TASKS, Aggregator
from wsi_mil.aggregators.names import AGGREGATORS, wrapped_method
from wsi_mil.contracts.labels import TaskKind
from wsi_mil.errors import ConfigError, nearest
from wsi_mil.tasks import Detection, Task
from wsi_mil.tasks.base import Head

NOT_PARAMETERS = ("in_features", "n_outputs", "base")


def build_aggregator(
    name: str,
    in_features: int,
    n_outputs: int,
    seed: int,
    params: Mapping[str, Any] | None = None,
    task: Task | None = None,
) -> Aggregator:
    """Return the aggregator `name` with weights drawn from `seed`; unknown parameters are refused by name.

    For `counterfactual(abmil)`, `params` holds the parameters of both; those that the wrapper has go to the
    wrapper.
    `task`: what the outputs mean; default: detection, whose first class is the normal one.
    """
    model = _built(name, in_features, n_outputs, seed, params or {})
    for part in model.modules():
        if isinstance(part, Aggregator) and task is not None:
            part.negative_classes = task.negative_classes
    return model


def _built(name: str, in_features: int, n_outputs: int, seed: int, params: Mapping[str, Any]) -> Aggregator:
    known = parameters_of(name)
    for key in params:
        if key not in known:
            raise ConfigError(
                f"aggregator {name!r} has no parameter {key!r}. Nearest: {nearest(key, list(known))}"
            )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inner = wrapped_method(name)
        sizes = {"in_features": in_features, "n_outputs": n_outputs}
        if inner is None:
            return _checked(name, AGGREGATORS.load(name)(**sizes, **params))
        own = _signature(AGGREGATORS.load(name))
        base = AGGREGATORS.load(inner)(**sizes, **{k: v for k, v in params.items() if k not in own})
        return _checked(name, AGGREGATORS.load(name)(base, **{k: v for k, v in params.items() if k in own}))


def _checked(name: str, built: object) -> Aggregator:
    if not isinstance(built, Aggregator):
        raise ConfigError(
            f"aggregator {name!r} made a {type(built).__name__}: it must derive from "
            "wsi_mil.aggregators.base.Aggregator"
        )
    return built


def parameters_of(name: str) -> dict[str, Any]:
    """Return the parameters of an aggregator and their defaults, those of a wrapped method included.

    >>> parameters_of("dsmil")
    {'query': 128, 'value': 'identity'}
    """
    inner = wrapped_method(name)
    return {**(_signature(AGGREGATORS.load(inner)) if inner else {}), **_signature(AGGREGATORS.load(name))}


def small_parameters(name: str) -> dict[str, Any]:
    """Return parameters that make an aggregator small enough for tests; of a wrapped method, those of the
    method.

    >>> small_parameters("guided(abmil)")
    {'hidden': (16,)}
    """
    return dict(getattr(AGGREGATORS.load(wrapped_method(name) or name), "small", {}))


def outputs_for(name: str, classes: int | Task, head: Head = "auto") -> int:
    """Return how many outputs the aggregator gets for a task; `classes` as a number: for detection of so
    many.

    Detection of two classes has 1 (sigmoid) or 2 (softmax); auto: as published. Raises ConfigError for a task
    that the method does not support.
    """
    task = Detection.of(classes) if isinstance(classes, int) else classes
    refuse_task(name, task)
    kind = AGGREGATORS.load(wrapped_method(name) or name)
    possible: tuple[int, ...] = getattr(kind, "binary_outputs", Aggregator.binary_outputs)
    if head == "sigmoid" and 1 not in possible:
        raise ConfigError(f"aggregator {name!r} has a softmax head only: leave train.head at 'auto'")
    return task.n_outputs(possible[0], head)


def supported_tasks(name: str) -> tuple[TaskKind, ...]:
    """Return the kinds of task that an aggregator supports: of a wrapped method, those that both support.

    >>> supported_tasks("clam_sb")
    ('detection', 'classification')
    """
    inner = wrapped_method(name)
    places = [AGGREGATORS.load(name), *([AGGREGATORS.load(inner)] if inner else [])]
    return tuple(kind for kind in ALL_TASKS if all(kind in getattr(p, "tasks", ALL_TASKS) for p in places))


def refuse_task(name: str, task: Task) -> None:
    """Raise ConfigError if the aggregator does not support the task."""
    refuse_kind(name, task.kind)


def refuse_kind(name: str, kind: TaskKind) -> None:
    """Raise ConfigError if the aggregator does not support this kind of task."""
    supported = supported_tasks(name)
    if kind not in supported:
        raise ConfigError(
            f"aggregator {name!r} does not support the task {kind}: its loss needs {' or '.join(supported)}; "
            "take another method, for example abmil_gated, focus_mil or mean_pool"
        )


def _signature(build: Callable[..., Any]) -> dict[str, Any]:
    """Return the parameters of a class besides its sizes. Raises ConfigError for one without sizes: it is no
    aggregator."""
    if not {"in_features", "base"} & set(inspect.signature(build).parameters):
        raise ConfigError(f"{build!r} is no aggregator: it must take in_features and n_outputs")
    found = inspect.signature(build).parameters.values()
    return {p.name: p.default for p in found if p.name not in NOT_PARAMETERS}
