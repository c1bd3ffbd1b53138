"""The recipe: every choice that makes a model, as a TOML file whose defaults stand here.

A recipe file names only what it changes. `load` reports every bad key at once, with its path and the nearest valid
name; `dumps` writes the resolved recipe with every key, which loads again to the same recipe.
"""

import dataclasses
import difflib
import tomllib
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, get_type_hints

from pipeline.errors import UsageError


def _key(
    default: Any,
    text: str,
    *,
    choices: tuple[Any, ...] = (),
    least: float | None = None,
    most: float | None = None,
) -> Any:
    return field(default=default, metadata={"text": text, "choices": choices, "least": least, "most": most})


@dataclass(frozen=True)
class DataKeys:
    """[data]: where the examples come from, when `--data` does not say."""

    source: str = _key("", "a prepared data set's folder, or the name of a set `pipeline data fetch` knows")


@dataclass(frozen=True)
class TokenizerKeys:
    """[tokenizer]: how text becomes token ids; unused for features."""

    level: str = _key("word", "what a token is", choices=("word", "character"))
    lowercase: bool = _key(True, "fold case before looking words up")
    max_tokens: int = _key(256, "tokens kept of each text; the rest is cut", least=1, most=100_000)
    max_vocabulary: int = _key(30_000, "most frequent tokens kept", least=1, most=2_000_000)
    min_count: int = _key(2, "a token must occur this often in the training split", least=1, most=1_000_000)


CELLS = ("lstm", "gru")
NORMS = ("none", "layer", "batch")
POOLINGS = ("max", "mean", "last", "attention", "max+mean", "max+mean+last", "max+attention")


@dataclass(frozen=True)
class ModelKeys:
    """[model]: the classifier's shape."""

    embedding_size: int = _key(128, "numbers in a token's vector; unused for features", least=1, most=4096)
    embedding_dropout: float = _key(
        0.0, "share of the vocabulary that reads as nothing, anew in each training batch", least=0, most=0.95
    )
    vectors: str = _key("", "a file of pre-trained word vectors: word2vec, GloVe or fastText, text, binary or .npz")
    freeze_embedding: bool = _key(False, "leave the token vectors as they are at the start")
    instance_norm: bool = _key(
        False, "give each sequence of frames zero mean and unit variance of its own; unused for text"
    )
    convolution: int = _key(0, "steps a convolution before the first layer sees (0: none)", choices=(0, 3, 5, 7, 9))
    cell: str = _key("lstm", "what a layer is made of", choices=CELLS)
    hidden_size: int = _key(128, "units of a layer in each direction", least=1, most=4096)
    layers: int = _key(1, "stacked layers", least=1, most=4)
    bidirectional: bool = _key(True, "read each sequence in both directions")
    residual: bool = _key(False, "add each layer's input to its output, from the second layer on")
    norm: str = _key("none", "normalise the output of each layer", choices=NORMS)
    pooling: str = _key("max", "how the steps become one vector; a sum is a concatenation", choices=POOLINGS)
    dropout: float = _key(
        0.5, "share of embedding, between-layer and pooled values dropped in training", least=0, most=0.95
    )
    locked_dropout: bool = _key(False, "drop the same values at every step of a row")
    weight_dropout: float = _key(0.0, "share of the recurrent weights dropped in training", least=0, most=0.95)


@dataclass(frozen=True)
class PretrainKeys:
    """[pretrain]: language modelling of unlabelled texts before the classes are learned."""

    texts: str = _key("", "a file of unlabelled texts; `train` for the training split's own (none: no pre-training)")
    epochs: int = _key(1, "passes over the texts", least=1, most=1_000_000)
    learning_rate: float = _key(2e-3, "size of a step at its largest", least=1e-12, most=1e38)
    negatives: int = _key(1000, "words that each batch's true words are told apart from", least=1, most=2_000_000)
    tied: bool = _key(True, "predict words with the vectors that read them")


@dataclass(frozen=True)
class TrainKeys:
    """[train]: the optimisation."""

    epochs: int = _key(10, "passes over the training split, at most", least=1, most=1_000_000)
    batch_size: int = _key(64, "sequences in a batch", least=1, most=1_000_000)
    batch_tokens: int = _key(
        0, "steps in a batch, padding included, at most: long sequences come in smaller batches (0: no limit)", least=0
    )
    accumulate: int = _key(1, "batches whose gradients make one step", least=1, most=1_000_000)
    optimizer: str = _key("adamw", "how gradients become steps", choices=("adam", "adamw", "rmsprop", "sgd"))
    learning_rate: float = _key(2e-3, "size of a step at its largest", least=1e-12, most=1e38)
    schedule: str = _key(
        "constant",
        "how the learning rate goes on after warm-up",
        choices=("constant", "linear", "cosine", "one_cycle", "plateau"),
    )
    warmup: float = _key(0.0, "share of all steps in which the learning rate rises from 0", least=0, most=1)
    layer_decay: float = _key(1.0, "learning rate of each layer, as a share of the next higher one's", least=0, most=1)
    gradual_unfreezing: bool = _key(False, "train the head alone in epoch 1, one layer more in each epoch after")
    weight_decay: float = _key(
        0.0, "pull of the weight matrices towards zero, token vectors left out; decoupled in adamw", least=0, most=1e6
    )
    momentum: float = _key(0.9, "of SGD and RMSprop; unused by Adam", least=0, most=1)
    nesterov: bool = _key(False, "Nesterov's momentum, in SGD")
    clip_norm: float = _key(1.0, "gradients are scaled down to this norm", least=1e-12, most=1e38)
    clip_value: float = _key(0.0, "each number of a gradient is cut to this size (0: not)", least=0, most=1e38)
    label_smoothing: float = _key(0.0, "share of the target spread over all classes", least=0, most=0.95)
    class_weights: str = _key(
        "none", "weigh each row by how rare its class is, or not", choices=("none", "balanced", "square_root")
    )
    ema_decay: float = _key(
        0.0, "decay of the weights' exponential moving average, which is validated and kept", least=0, most=0.9999
    )
    swa_from: int = _key(
        0, "the epoch from which the mean of the weights is validated and kept (0: never)", least=0, most=1_000_000
    )
    select: str = _key("loss", "what makes an epoch the best, on the validation split", choices=("loss", "accuracy"))
    calibrate: bool = _key(True, "fit a temperature to the validation split and fold it into the last layer")
    precision: str = _key(
        "auto", "auto is bf16 where the processor has instructions for it", choices=("auto", "fp32", "bf16")
    )
    patience: int = _key(2, "epochs without a better one before training stops", least=1, most=1_000_000)
    seed: int = _key(0, "of initial weights, dropout and the order of batches", least=0, most=2**63 - 1)


@dataclass(frozen=True)
class AugmentKeys:
    """[augment]: how the training split is varied, anew in each epoch."""

    word_dropout: float = _key(0.0, "share of tokens read as unknown; unused for features", least=0, most=0.9)
    typos: float = _key(0.0, "share of words misspelt; unused for features", least=0, most=1)
    frame_noise: float = _key(0.0, "noise, in standard deviations of each feature; unused for text", least=0, most=100)
    frame_masks: int = _key(
        0, "stretches of steps, and of features, that are blanked; unused for text", least=0, most=100
    )
    frame_stretch: float = _key(0.0, "largest change of pace, as a share; unused for text", least=0, most=0.9)


@dataclass(frozen=True)
class AdversarialKeys:
    """[adversarial]: training against the worst small change of each input."""

    method: str = _key("none", "how the change is found", choices=("none", "fgm", "pgd", "virtual", "word"))
    size: float = _key(
        0.2, "L2 norm of a row's change, in root-mean-square norms of its steps; words changed by `word`", least=0
    )
    steps: int = _key(3, "gradient steps of pgd", least=1, most=100)
    weight: float = _key(1.0, "of the changed rows' loss beside the clean rows'", least=0, most=1e6)


@dataclass(frozen=True)
class PublishKeys:
    """[publish]: how the model is served."""

    name: str = _key("", "the model's name in the repository; the data set's name by default")
    max_batch_size: int = _key(64, "rows Triton may put into one batch", least=1, most=65_536)
    max_queue_delay_microseconds: int = _key(
        0, "how long Triton may hold a request to fill a batch", least=0, most=60_000_000
    )
    max_queue_size: int = _key(
        1024, "requests that may wait; more are answered UNAVAILABLE (0: no limit)", least=0, most=1_000_000
    )
    instances: int = _key(
        2,
        "copies of the model that work at once; a single one can leave requests waiting for 0.5 s",
        least=1,
        most=1024,
    )
    threads: int = _key(1, "threads of each copy (0: one for each processor)", least=0, most=1024)


@dataclass(frozen=True)
class Recipe:
    """Every choice that makes a model."""

    data: DataKeys = field(default_factory=DataKeys)
    tokenizer: TokenizerKeys = field(default_factory=TokenizerKeys)
    model: ModelKeys = field(default_factory=ModelKeys)
    pretrain: PretrainKeys = field(default_factory=PretrainKeys)
    train: TrainKeys = field(default_factory=TrainKeys)
    augment: AugmentKeys = field(default_factory=AugmentKeys)
    adversarial: AdversarialKeys = field(default_factory=AdversarialKeys)
    publish: PublishKeys = field(default_factory=PublishKeys)


def load(name: str | None = None, settings: tuple[str, ...] = ()) -> Recipe:
    """Read a recipe and apply ``section.key=value`` settings on top.

    Args:
        name: a path ending in ``.toml``, the name of a recipe in the package, or None for the defaults.
        settings: such as ``train.batch_size=32``; the value is TOML, or a bare word.

    Raises:
        UsageError: the file is missing or not TOML, or keys or values are wrong: all of them are listed.
    """
    values = _read(name) if name else {}
    problems: list[str] = []
    _change(values, settings, problems)
    recipe = _build(values, problems)
    _refuse(name, problems + _conflicts(recipe))
    return recipe


def type_of(setting: str) -> type:
    """Return the type of the key that a ``section.key=value`` setting changes, whatever other keys say.

    Raises:
        UsageError: there is no such key, or the value is none of its values.
    """
    values: dict[str, Any] = {}
    problems: list[str] = []
    _change(values, (setting,), problems)
    recipe = _build(values, problems)
    _refuse(None, problems)
    section, _, key = setting.partition("=")[0].strip().partition(".")
    return type(getattr(getattr(recipe, section), key))


def dumps(recipe: Recipe) -> str:
    """Write a recipe as TOML with every key."""
    lines = []
    for section in dataclasses.fields(recipe):
        lines.append(f"[{section.name}]")
        lines += [
            f"{key} = {_toml_text(value)}" for key, value in dataclasses.asdict(getattr(recipe, section.name)).items()
        ]
        lines.append("")
    return "\n".join(lines)


def names() -> list[str]:
    """Return the names of the recipes in the package."""
    return sorted(item.name.removesuffix(".toml") for item in _folder().iterdir() if item.name.endswith(".toml"))


def table() -> list[tuple[str, str, str]]:
    """Return every key with its default and its meaning, for the documentation."""
    rows = []
    for section in dataclasses.fields(Recipe):
        for key in dataclasses.fields(_SECTIONS[section.name]):
            choices = " · ".join(map(str, key.metadata["choices"]))
            text = ": ".join(part for part in (key.metadata["text"], choices) if part)
            rows.append((f"{section.name}.{key.name}", _toml_text(key.default), text))
    return rows


_SECTIONS: dict[str, Any] = get_type_hints(Recipe)


def _folder() -> Any:
    return resources.files("pipeline") / "recipes"


def _read(name: str) -> dict[str, Any]:
    try:
        if name.endswith(".toml"):
            content = Path(name).read_text("utf-8")
        elif name in names():
            content = (_folder() / f"{name}.toml").read_text("utf-8")
        else:
            raise UsageError(
                f"{name}: no such recipe. The package has {', '.join(names())}; a file's name ends in .toml."
            )
        return tomllib.loads(content)
    except OSError as error:
        raise UsageError(f"{name}: cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{name}: not TOML: {error}.") from error


def _change(values: dict[str, Any], settings: tuple[str, ...], problems: list[str]) -> None:
    for setting in settings:
        path, separator, text = setting.partition("=")
        section, dot, key = path.strip().partition(".")
        if not (separator and dot):
            problems.append(f"--set {setting}: wanted SECTION.KEY=VALUE, such as train.batch_size=32")
            continue
        entry = values.setdefault(section, {})
        if isinstance(entry, dict):
            entry[key] = _toml_value(text.strip())


def _refuse(name: str | None, problems: list[str]) -> None:
    if problems:
        raise UsageError(f"{name or 'recipe'}: {len(problems)} bad key(s):\n  " + "\n  ".join(problems))


def _build(values: dict[str, Any], problems: list[str]) -> Recipe:
    sections = {}
    for name, content in values.items():
        if name not in _SECTIONS:
            problems.append(f"{name}: no such section{_nearest(name, _SECTIONS)}")
        elif not isinstance(content, dict):
            problems.append(f"{name}: wanted a section, got {content!r}")
        else:
            sections[name] = _build_section(name, content, problems)
    return Recipe(**sections)


def _conflicts(recipe: Recipe) -> list[str]:
    """Return what is wrong with keys that are right one by one."""
    model, pretrain, train = recipe.model, recipe.pretrain, recipe.train
    wrong = {
        "train.swa_from: wanted 0 beside train.ema_decay: choose one mean of the weights": (
            train.swa_from and train.ema_decay
        ),
        "train.nesterov: wanted train.optimizer=sgd and a train.momentum above 0": (
            train.nesterov and not (train.optimizer == "sgd" and train.momentum)
        ),
        "adversarial.size: wanted the number of words to change, at least 1, beside adversarial.method=word": (
            recipe.adversarial.method == "word" and round(recipe.adversarial.size) < 1
        ),
        "pretrain.texts: wanted model.convolution=0: it would show a step the word that is to be predicted": (
            pretrain.texts and model.convolution
        ),
    }
    return [problem for problem, is_wrong in wrong.items() if is_wrong]


def _build_section(section: str, content: dict[str, Any], problems: list[str]) -> Any:
    kind = _SECTIONS[section]
    keys = {key.name: key for key in dataclasses.fields(kind)}
    good = {}
    for name, value in content.items():
        if name not in keys:
            problems.append(f"{section}.{name}: no such key{_nearest(name, keys)}")
            continue
        problem = _problem(keys[name], value)
        if problem:
            problems.append(f"{section}.{name}: {problem}")
        else:
            good[name] = float(value) if isinstance(keys[name].default, float) else value
    return kind(**good)


def _problem(key: Any, value: Any) -> str:
    wanted = type(key.default)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (is_number if wanted is float else type(value) is wanted):
        return f"wanted {_WORDS[wanted]}, got {value!r}"
    if key.metadata["choices"] and value not in key.metadata["choices"]:
        return f"wanted one of {', '.join(map(str, key.metadata['choices']))}, got {value!r}"
    least, most = key.metadata["least"], key.metadata["most"]
    if is_number and least is not None and not value >= least:
        return f"wanted at least {least}, got {value!r}"
    if is_number and most is not None and not value <= most:
        return f"wanted at most {most}, got {value!r}"
    return ""


_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}


def _nearest(name: str, known: Any) -> str:
    match = difflib.get_close_matches(name, list(known), n=1, cutoff=0.4)
    return f"; did you mean {match[0]}?" if match else f"; there are {', '.join(known)}"


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _toml_text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return repr(value)
