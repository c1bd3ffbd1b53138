"""What a with-statement closes."""

from abc import ABC, abstractmethod
from typing import Self


class Closing(ABC):
    """Something that is closed where its with-statement ends, however it ends."""

    @abstractmethod
    def close(self) -> None:
        """Let go of what is held."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
