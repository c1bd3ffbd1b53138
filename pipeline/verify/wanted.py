"""Which checks were asked for."""

from dataclasses import dataclass, field

from pipeline.errors import UsageError
from pipeline.verify.parity_report import Check


@dataclass
class Wanted:
    """The checks that were asked for, all if none is named, and the names that were met."""

    names: frozenset[str] = frozenset()
    met: dict[str, None] = field(default_factory=dict)

    def is_asked(self, name: str) -> bool:
        """Whether a check was asked for."""
        self.met[name] = None
        return not self.names or name in self.names

    def is_shown(self, check: Check) -> bool:
        """Whether a check was asked for, or says that an engine could not be asked."""
        return self.is_asked(check.name) or check.name in {"load", "answers"}

    def require_met(self) -> None:
        """Refuse a name that no check has.

        Raises:
            UsageError: there is none.
        """
        if missing := self.names - set(self.met):
            raise UsageError(f"no check {', '.join(sorted(missing))} is made here; there are {', '.join(self.met)}.")
