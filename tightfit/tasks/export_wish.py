"""What somebody asks for who wants an export."""

from dataclasses import dataclass
from pathlib import Path

from space.results.document import FrontDocument

DEFAULT_RECOVERY = "refit"


@dataclass(frozen=True, slots=True)
class ExportWish:
    """A wish as it was uttered; see `Service.export`.

    Attributes:
        out: a new folder.
        point: by name; None: the recommended one, or the best within the budget.
        budget: as users write it.
        target: what it is written as; None: the job's.
        refit: whether its values are recovered before; None: where that can help and memory holds both models.
        recovery: how.
        host: the only host that may do it; None: any.

    """

    out: Path
    point: str | None = None
    budget: str | None = None
    target: str | None = None
    refit: bool | None = None
    recovery: str = DEFAULT_RECOVERY
    host: str | None = None

    def check(self, document: FrontDocument) -> None:
        """Refuse what needs neither the model nor any file of the job; see `check_wish`."""
        from tightfit.export.early import check_wish

        check_wish(document, self.out, self.point, self.budget, self.target)
