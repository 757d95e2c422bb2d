"""The largest loss of average precision that a model may have against another one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class DropGate:
    """The comparison of models with a reference.

    Attributes:
        reference: name of the model that the others are compared with.
        drops: AP that each of the others loses, by name; negative where it gains.
        max_drop: largest loss that passes; None where none is asked for.
    """

    reference: str
    drops: Mapping[str, float]
    max_drop: float | None = None

    @classmethod
    def compare(cls, precisions: Mapping[str, float], max_drop: float | None = None) -> "DropGate":
        """Compare models, by name and average precision, with the first of them."""
        (reference, best), *others = precisions.items()
        return cls(reference, {name: round(best - ap, 5) for name, ap in others}, max_drop)

    @property
    def failures(self) -> list[str]:
        """One sentence for each model that loses too much."""
        if self.max_drop is None:
            return []
        return [
            f"{name} has {drop:.4f} AP less than {self.reference}; expected at most {self.max_drop:g} less"
            for name, drop in self.drops.items()
            if drop > self.max_drop
        ]

    def to_json(self) -> dict[str, Any]:
        """Return the attributes by name, and whether all models `passed`; null where no loss was asked for."""
        passed = None if self.max_drop is None else not self.failures
        return {"reference": self.reference, "drops": dict(self.drops), "max_drop": self.max_drop, "passed": passed}
