"""Judge models that answer named arrays: the questions of `checks`, of any inputs and outputs."""

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from pipeline.errors import CheckFailed, PipelineError
from pipeline.verify.compare import Distance, Tolerance
from pipeline.verify.foreign.draw import Case, Inputs, count_of, take
from pipeline.verify.foreign.references import NamedModel
from pipeline.verify.foreign.spec import NUMPY_DTYPES, ModelSpec, TensorSpec
from pipeline.verify.parity_report import Check

_NUMBERS_KEPT = 1000


def parity(
    kind: str,
    reference: NamedModel,
    candidate: NamedModel,
    cases: Iterable[Case],
    spec: ModelSpec,
    tolerance: Tolerance,
) -> Iterator[Check]:
    """Check that a candidate answers every case, in the declared shapes, with the reference's values.

    Raises:
        PipelineError: the reference raised, which says nothing about the candidate.
    """
    outputs = [_Output(tensor, spec, spec.batch_axis, tolerance) for tensor in spec.outputs]
    problems: dict[str, list[str]] = {"answers": [], "shapes": []}
    count = 0
    for case in cases:
        count += 1
        try:
            expected = reference.answer(case.inputs)
        except CheckFailed as error:  # it gives other outputs
            problems["shapes"].append(f"at {case.name}: {error}")
            continue
        except PipelineError as error:
            raise PipelineError(f"{error} (at {case.name}). Sizes that it takes are given with --axis.") from error
        try:
            given = candidate.answer(case.inputs)
        except PipelineError as error:
            problems["answers"].append(f"at {case.name}: {error}")
            continue
        found = [f"at {case.name}: {problem}" for problem in _shape_problems(spec, case.inputs, expected, given)]
        problems["shapes"] += found
        for output in outputs if not found else []:
            output.add(case, expected, given)
    for name, these in problems.items():
        detail = (
            f"as declared in {count} of {count} cases"
            if not these
            else f"{these[0]}; {len(these)} such in {count} cases"
        )
        yield Check(candidate.name, f"{kind} {name}", count > 0 and not these, detail, {"problems": these})
    for output in outputs:
        yield output.check(candidate.name, f"{kind} {output.tensor.name}")


def repeatability(candidate: NamedModel, case: Case) -> Check:
    """Check that the same inputs twice give the same bits."""
    first, second = candidate.answer(case.inputs), candidate.answer(case.inputs)
    other = [name for name, array in first.items() if _bits(array) != _bits(second[name])]
    outcome = f"other bits the second time in {', '.join(other)}" if other else "the same bits"
    return Check(candidate.name, "repeated", not other, f"{case.name}, twice: {outcome}", {"other": other})


def company(candidate: NamedModel, case: Case, spec: ModelSpec, axis: str, tolerance: Tolerance) -> Iterator[Check]:
    """Check that rows answer in company as they answer alone: mixed, shuffled, beside rows of hostile numbers.

    Args:
        candidate: the model.
        case: some rows.
        spec: its inputs and outputs.
        axis: the one that rows lie along.
        tolerance: what two numbers may be apart.

    Raises:
        PipelineError: the candidate cannot answer.
        CheckFailed: an output's shape depends on more than the inputs' sizes.
    """
    count = count_of(spec, case.inputs)
    alone = [candidate.answer(take(spec.inputs, axis, case.inputs, np.array([row]))) for row in range(count)]
    expected = {
        tensor.name: _joined(tensor, axis, [answer[tensor.name] for answer in alone]) for tensor in spec.outputs
    }
    order = np.random.default_rng(0).permutation(count)
    shuffled = Case("shuffled", take(spec.inputs, axis, case.inputs, order))
    arrangements = {
        "mixed": [(Case("mixed", case.inputs), np.arange(count))],
        "shuffled": [(shuffled, np.argsort(order))],
        "hostile neighbours": [(beside, np.arange(count) * 2) for beside in _beside(spec, axis, case.inputs)],
    }
    for name, asked in arrangements.items():
        outputs = [_Output(tensor, spec, axis, tolerance) for tensor in spec.outputs]
        for arrangement, places in asked:
            answer = candidate.answer(arrangement.inputs)
            for problem in _shape_problems(spec, arrangement.inputs, answer, answer):
                raise CheckFailed(f"{arrangement.name}: {problem}")
            given = take(spec.outputs, axis, answer, places)
            for output in outputs:
                output.add(Case(arrangement.name, case.inputs), expected, given)
        for output in outputs if asked else []:
            yield output.check(candidate.name, f"{name} {output.tensor.name}")


class _Output:
    """How far one output is from what was expected over all the cases that were added, and the worst of it, whole."""

    def __init__(self, tensor: TensorSpec, spec: ModelSpec, axis: str | None, tolerance: Tolerance) -> None:
        self.tensor = tensor
        self._spec = spec
        self._axis = axis
        self._distance = Distance(tolerance)
        self._values = 0
        self._other = 0
        self._tied = 0
        self._worst: dict[str, Any] = {}

    def add(self, case: Case, expected: Inputs, given: Inputs) -> None:
        """Compare one case's arrays, of equal shapes; without a value in them nothing was compared."""
        ours, theirs = (np.atleast_1d(answers[self.tensor.name]) for answers in (expected, given))
        if ours.shape != theirs.shape:
            raise CheckFailed(f"{case.name}: {self.tensor.name} is {list(theirs.shape)}, alone {list(ours.shape)}")
        if not ours.size:
            return
        self._values += ours.size
        if self._is_exact:
            apart = np.asarray(ours != theirs)
            tied = apart & _is_tied(self.tensor, self._spec, self._axis, expected, self._distance.tolerance)
            apart &= ~tied
            self._tied += int(tied.sum())
            is_worst = not self._other and bool(apart.any())
            self._other += int(apart.sum())
        else:
            before = self._distance.max_absolute
            row = float(np.max(self._distance.add(ours, theirs)))
            is_worst = not self._worst or not (row <= before or math.isnan(before))
            with np.errstate(invalid="ignore"):  # ∞ - ∞
                apart = np.abs(np.subtract(ours, theirs, dtype=np.float64))
            apart[~np.isfinite(apart)] = np.inf
        if is_worst:
            self._worst = self._case_at(np.unravel_index(np.argmax(apart), apart.shape), case, ours, theirs)

    def check(self, engine: str, name: str) -> Check:
        """Judge what was added."""
        if self._is_exact:
            passed, found = self._values > 0 and not self._other, f"{self._other:,} of {self._values:,} values differ"
            found += f", {self._tied:,} more of ties" if self._tied else ""
            measured: dict[str, Any] = {"differing": self._other, "tied": self._tied}
        else:
            passed, found, measured = self._distance.is_within, self._found, self._distance.figures
        if not passed and self._worst:
            worst = self._worst
            place = f"{worst['case']}, {self.tensor.name}{worst['index']}"
            found += f"; worst at {place}: {worst['candidate']!r}, wanted {worst['reference']!r}"
        detail = found if self._values else "nothing was compared"
        return Check(engine, name, passed, detail, {"values": self._values, **measured, "worst": self._worst})

    @property
    def _is_exact(self) -> bool:
        return self.tensor.kind != "f"

    @property
    def _found(self) -> str:
        figures, allowed = self._distance.figures, self._distance.tolerance
        found = f"max |Δ| {figures['max_absolute']:.1e} over {self._values:,} values; allowed {allowed.absolute:g}"
        if allowed.relative:
            found += f" + {allowed.relative:g} · |reference|"
        if any(figures["not_finite"]):
            return f"{found}; {max(figures['not_finite']):,} values are not finite"
        if figures["needed"] > allowed.absolute:
            found += f"; would pass with --absolute {_above(figures['needed'])}"
        return found

    def _case_at(self, index: tuple[Any, ...], case: Case, ours: np.ndarray, theirs: np.ndarray) -> dict[str, Any]:
        """Return the values at one place, and the inputs of their row."""
        inputs = case.inputs
        if self._axis is not None and self._axis in self.tensor.shape:
            row = index[self.tensor.shape.index(self._axis)]
            inputs = take(self._spec.inputs, self._axis, inputs, np.array([row]))
        return {
            "case": case.name,
            "index": [int(place) for place in index],
            "reference": np.asarray(ours[index]).tolist(),
            "candidate": np.asarray(theirs[index]).tolist(),
            "inputs": {
                name: array.tolist() if array.size <= _NUMBERS_KEPT else f"{array.dtype} {list(array.shape)}"
                for name, array in inputs.items()
            },
        }


def _above(needed: float) -> str:
    """Return a number in two digits that is not below the one that is needed."""
    step = 10.0 ** (math.floor(math.log10(needed)) - 1)
    return f"{math.ceil(needed / step) * step:.1e}"


def _shape_problems(spec: ModelSpec, inputs: Inputs, expected: Inputs, given: Inputs) -> Iterator[str]:
    """Say which outputs have not the declared shape, at the inputs' sizes of its axes, or not the reference's."""
    sizes = {
        axis: size
        for tensor in spec.inputs
        for axis, size in zip(tensor.shape, inputs[tensor.name].shape, strict=True)
        if isinstance(axis, str)
    }
    for tensor in spec.outputs:
        shape, theirs = given[tensor.name].shape, expected[tensor.name].shape
        declared = tuple(sizes.get(axis, axis) if isinstance(axis, str) else axis for axis in tensor.shape)
        is_fit = len(shape) == len(declared) and all(
            sizes.setdefault(axis, size) == size if isinstance(axis, str) else axis == size
            for axis, size in zip(declared, shape, strict=True)
        )
        if not is_fit:
            yield f"{tensor.name} is {list(shape)}, declared {list(declared)}"
        elif shape != theirs:
            yield f"{tensor.name} is {list(shape)}, the reference gives {list(theirs)}"


def _joined(tensor: TensorSpec, axis: str, answers: list[np.ndarray]) -> np.ndarray:
    """Return one array of single rows' answers, which must be of one shape."""
    shapes = {answer.shape for answer in answers}
    if len(shapes) > 1:
        raise CheckFailed(f"{tensor.name} has {len(shapes)} shapes for single rows: {', '.join(map(str, shapes))}")
    return np.concatenate(answers, tensor.shape.index(axis))


def _beside(spec: ModelSpec, axis: str, inputs: Inputs) -> Iterator[Case]:
    """Yield every row followed by its copy whose floats are all one hostile number; nothing without floats."""
    numbers = [tensor for tensor in spec.inputs if tensor.kind == "f" and axis in tensor.shape]
    rows = np.arange(2 * count_of(spec, inputs)) // 2
    for name in ("nan", "inf", "max") if numbers else ():
        twice = take(spec.inputs, axis, inputs, rows)
        for tensor in numbers:
            hostile = np.moveaxis(twice[tensor.name], tensor.shape.index(axis), 0)
            hostile[1::2] = getattr(np.finfo(NUMPY_DTYPES[tensor.dtype]), name) if name == "max" else float(name)
        yield Case(f"beside {name}", twice)


def _is_tied(
    tensor: TensorSpec, spec: ModelSpec, axis: str | None, expected: Inputs, tolerance: Tolerance
) -> np.ndarray:
    """Return where a label is undecided: the two largest numbers of its row in the one (N, C) output are that close."""
    scores = [scored for scored in spec.outputs if scored.kind == "f" and _is_scores(scored, axis)]
    if len(scores) != 1 or not tensor.shape or tensor.shape[0] != axis:
        return np.zeros((), bool)
    largest = np.sort(expected[scores[0].name].astype(np.float64), axis=1)[:, -2:]
    with np.errstate(invalid="ignore"):  # ∞ - ∞
        is_tied = largest[:, 1] - largest[:, 0] <= tolerance.absolute
    return is_tied.reshape(-1, *(1,) * (len(tensor.shape) - 1))


def _is_scores(tensor: TensorSpec, axis: str | None) -> bool:
    return len(tensor.shape) == 2 and tensor.shape[0] == axis and isinstance(size := tensor.shape[1], int) and size > 1


def _bits(array: np.ndarray) -> Any:
    return array.tolist() if array.dtype == object else array.tobytes()
