"""Models that answer named arrays: an ONNX file, a PyTorch module, a scikit-learn estimator, any function."""

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime as ort
import torch

from pipeline.errors import CheckFailed, PipelineError, UsageError
from pipeline.runtime import first_line, open_session
from pipeline.verify.foreign.draw import Inputs
from pipeline.verify.foreign.spec import ModelSpec

_COMPARABLE = {"O": "OUS", "b": "b", "f": "fiu", "i": "iu", "u": "iu"}


class NamedModel(Protocol):
    """Something that answers named arrays with named arrays."""

    name: str

    def answer(self, inputs: Inputs) -> dict[str, np.ndarray]:
        """Answer once, with an array for every output of the specification."""


class OnnxModel:
    """An ONNX file in ONNX Runtime."""

    def __init__(self, name: str, session: ort.InferenceSession, spec: ModelSpec) -> None:
        self.name = name
        self._session = session
        self._outputs = [tensor.name for tensor in spec.outputs]

    def answer(self, inputs: Inputs) -> dict[str, np.ndarray]:
        """Answer in one run.

        Raises:
            PipelineError: ONNX Runtime could not.
        """
        try:
            return dict(zip(self._outputs, self._session.run(self._outputs, dict(inputs)), strict=True))
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            raise PipelineError(f"{self.name}: cannot answer: {first_line(error)}") from error


class CallableModel:
    """A Python object that is called with every input and gives arrays.

    It gets copies, so that what it does to its arguments changes nothing for the model that is compared with it.
    """

    def __init__(self, name: str, call: Callable[[dict[str, np.ndarray]], Any], spec: ModelSpec) -> None:
        self.name = name
        self._call = call
        self._spec = spec

    def answer(self, inputs: Inputs) -> dict[str, np.ndarray]:
        """Answer in one call.

        Raises:
            PipelineError: it raised.
            CheckFailed: it gives other outputs than the model, or another kind of values.
        """
        try:
            return self._named(self._call({name: array.copy() for name, array in inputs.items()}))
        except CheckFailed:
            raise
        except Exception as error:
            raise PipelineError(f"{self.name}: raised {type(error).__name__}: {first_line(error)}") from error

    def _named(self, given: Any) -> dict[str, np.ndarray]:
        names = [tensor.name for tensor in self._spec.outputs]
        if not isinstance(given, Mapping):
            arrays = list(_arrays(given))
            if len(arrays) != len(names):
                raise CheckFailed(f"{self.name}: gives {len(arrays)} outputs; the model has {', '.join(names)}")
            given = dict(zip(names, arrays, strict=True))
        if set(given) != set(names):
            raise CheckFailed(f"{self.name}: gives {', '.join(map(str, given))}; the model has {', '.join(names)}")
        for tensor in self._spec.outputs:
            array = given[tensor.name] = _array(given[tensor.name])
            if array.dtype.kind not in _COMPARABLE[tensor.kind]:
                raise CheckFailed(f"{self.name}: gives {array.dtype} as {tensor.name}; the model {tensor.dtype}")
        return dict(given)


def open_reference(name: str, spec: ModelSpec) -> NamedModel:
    """Open what a model is compared with.

    Args:
        name: ``FILE.onnx``, or ``package.module:attribute``, imported from the current directory or the environment:
            a `torch.nn.Module`, a callable, an object with `predict`, or a function without parameters that makes one.
        spec: the inputs it is asked with and the outputs it must give.

    Raises:
        UsageError: there is no such thing, or it cannot be asked.
        PipelineError: its file or its module fails to load.
    """
    if name.endswith(".onnx"):
        return OnnxModel(name, open_session(Path(name)), spec)
    target = _imported(name)
    if inspect.isfunction(target) and not inspect.signature(target).parameters:
        target = _made(name, target)
    return CallableModel(name, _caller(name, target, spec), spec)


def _imported(name: str) -> Any:
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise UsageError(f"--reference {name}: wanted FILE.onnx or package.module:attribute.")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)  # and left there: a reference may import more when it is called
    try:
        target = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and (module == error.name or module.startswith(f"{error.name}.")):
            raise UsageError(f"--reference {name}: no module {error.name} in {here} or the environment.") from error
        raise PipelineError(f"{name}: importing {module}: {error}. Install it beside pipeline.") from error
    except SystemExit as error:
        raise PipelineError(f"{name}: importing {module} ends the program. Guard its main part.") from error
    except Exception as error:
        raise PipelineError(f"{name}: importing {module} raised {type(error).__name__}: {first_line(error)}") from error
    for part in attribute.split("."):
        if not hasattr(target, part):
            raise UsageError(f"--reference {name}: {module} has no {attribute}.")
        target = getattr(target, part)
    return target


def _made(name: str, factory: Callable[[], Any]) -> Any:
    try:
        return factory()
    except Exception as error:
        raise PipelineError(f"{name}: raised {type(error).__name__}: {first_line(error)}") from error


def _caller(name: str, target: Any, spec: ModelSpec) -> Callable[[dict[str, np.ndarray]], Any]:
    """Return the way to ask a target; it is recognised by what it can do."""
    if isinstance(target, type):
        raise UsageError(f"--reference {name}: a class; name an instance of it, or a function without parameters.")
    if isinstance(target, torch.nn.Module):
        texts = [tensor.name for tensor in spec.inputs if tensor.kind == "O"]
        if texts:
            raise UsageError(
                f"--reference {name}: PyTorch has no text tensors for {', '.join(texts)}; name a function."
            )
        return _torch_caller(target)
    if callable(target):
        return _function_caller(target, [tensor.name for tensor in spec.inputs])
    if hasattr(target, "predict"):
        if len(spec.inputs) != 1:
            inputs = ", ".join(tensor.name for tensor in spec.inputs)
            raise UsageError(f"--reference {name}: an estimator takes one input, the model {inputs}; name a function.")
        return _estimator_caller(target, spec)
    raise UsageError(f"--reference {name}: {type(target).__name__} can neither be called nor predict.")


def _torch_caller(module: torch.nn.Module) -> Callable[[dict[str, np.ndarray]], Any]:
    """Call a module in evaluation mode, with tensors in the inputs' order, on its device and in its precision."""
    module.eval()
    own = next((weight for weight in module.parameters() if weight.is_floating_point()), torch.zeros(()))

    def call(inputs: dict[str, np.ndarray]) -> Any:
        tensors = [torch.from_numpy(array).to(own.device) for array in inputs.values()]
        with torch.no_grad():
            return module(*[tensor.to(own.dtype) if tensor.is_floating_point() else tensor for tensor in tensors])

    return call


def _function_caller(function: Callable[..., Any], names: list[str]) -> Callable[[dict[str, np.ndarray]], Any]:
    """Call a function by keyword where its parameters are named like the inputs, else in the inputs' order."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some that are written in C do not say
        parameters = {}.values()
    keywords = {item.name for item in parameters if item.kind in (item.POSITIONAL_OR_KEYWORD, item.KEYWORD_ONLY)}
    if set(names) <= keywords:
        return lambda inputs: function(**inputs)
    return lambda inputs: function(*inputs.values())


def _estimator_caller(estimator: Any, spec: ModelSpec) -> Callable[[dict[str, np.ndarray]], Any]:
    """Ask an estimator: numbers are its `predict_proba` where it has one, all else is its `predict`."""

    def call(inputs: dict[str, np.ndarray]) -> Any:
        (rows,) = inputs.values()
        answers = {}
        for tensor in spec.outputs:
            is_scored = tensor.kind == "f" and hasattr(estimator, "predict_proba")
            answer = np.asarray(estimator.predict_proba(rows) if is_scored else estimator.predict(rows))
            # a converter gives (N, 1) where an estimator gives (N,)
            answers[tensor.name] = answer.reshape(answer.shape + (1,) * (len(tensor.shape) - answer.ndim))
        return answers

    return call


def _arrays(given: Any) -> "list[Any]":
    """Return several outputs as a list: a tuple's items, or a list's where they are arrays; nested ones in order."""
    is_several = isinstance(given, tuple) or (
        isinstance(given, list) and any(isinstance(item, tuple) or getattr(item, "ndim", 0) for item in given)
    )
    return [array for item in given for array in _arrays(item)] if is_several else [given]


def _array(given: Any) -> np.ndarray:
    """Return an array of numbers, or of texts as objects."""
    if isinstance(given, torch.Tensor):
        given = given.detach().cpu()
        given = given.float() if given.dtype == torch.bfloat16 else given
    array = np.asarray(given)
    if array.dtype.kind in "SUO":
        texts = [item.decode() if isinstance(item, bytes) else str(item) for item in array.ravel().tolist()]
        return np.array(texts, object).reshape(array.shape)
    return array
