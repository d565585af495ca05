"""How many objects changed, and how."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from geohr.workflows.change.shift import ShiftField
from geohr.workflows.change.verdicts import KINDS, SAME, UNSURE, Changes


@dataclass
class ChangeCounts:
    """The number of groups of each kind.

    Attributes:
        objects: By kind, how many groups.
        area_before: By kind, square metres of the earlier date.
        area_after: By kind, square metres of the later date.
        expected: By kind, the sum of confidences and their variance: with 1.96 standard deviations
            the interval of the number, if confidences are probabilities.
        unseen: Objects that the other date does not show, and that were not compared.
        repaired: Invalid polygons that were repaired.
        shift: The shift that was taken out.
    """

    objects: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    area_before: dict[str, float] = field(default_factory=lambda: dict.fromkeys(KINDS, 0.0))
    area_after: dict[str, float] = field(default_factory=lambda: dict.fromkeys(KINDS, 0.0))
    expected: dict[str, tuple[float, float]] = field(
        default_factory=lambda: dict.fromkeys(KINDS, (0.0, 0.0))
    )
    unseen: int = 0
    repaired: int = 0
    shift: ShiftField = field(default_factory=ShiftField.none)

    def add(self, changes: Changes) -> None:
        """Add the groups of a strip."""
        self.unseen += int(changes.unseen.sum())
        for kind in KINDS:
            mine = (changes.change == kind) & ~changes.unseen
            self.objects[kind] += int(mine.sum())
            self.area_before[kind] += float(changes.area_before[mine].sum())
            self.area_after[kind] += float(changes.area_after[mine].sum())
            # An unsure group may be what is likeliest for it.
            likely = (changes.likely == kind) & ~changes.unseen
            sure = changes.confidence[likely]
            mean, variance = self.expected[kind]
            self.expected[kind] = (
                mean + float(sure.sum()),
                variance + float((sure * (1 - sure)).sum()),
            )

    def interval(self, kind: str) -> tuple[float, float]:
        """The number of groups of a kind, at 95%, by the confidences."""
        mean, variance = self.expected[kind]
        half = 1.96 * variance**0.5
        return max(mean - half, 0.0), mean + half

    def as_dict(self) -> dict[str, Any]:
        """The counts as a dictionary, for JSON."""
        return {
            "shift_m": self.shift.metres,
            "shift_windows": self.shift.windows,
            "not_compared": self.unseen,
            "repaired": self.repaired,
            "kinds": {
                kind: {
                    "objects": self.objects[kind],
                    "area_before_m2": self.area_before[kind],
                    "area_after_m2": self.area_after[kind],
                    **({} if kind in (SAME, UNSURE) else {"interval": list(self.interval(kind))}),
                }
                for kind in KINDS
            },
        }

    def describe(self) -> str:
        """A description with one line per kind."""
        lines = [self.shift.describe()]
        for kind in KINDS:
            text = f"{kind}: {self.objects[kind]}"
            if self.objects[kind]:
                before, after = self.area_before[kind], self.area_after[kind]
                text += f", {before:,.0f} m2 before and {after:,.0f} m2 after"
            if kind not in (SAME, UNSURE) and self.objects[kind]:
                low, high = self.interval(kind)
                text += f" (95% by their confidences: {low:.0f} to {high:.0f})"
            lines.append(text)
        if self.unseen:
            lines.append(f"not compared, as one date does not show them: {self.unseen}")
        if self.repaired:
            lines.append(f"invalid polygons repaired: {self.repaired}")
        return "\n".join(lines)
