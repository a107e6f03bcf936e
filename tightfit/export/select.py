"""Which point of a front to export."""

from space.budget import parse_budget
from space.errors import InfeasibleBudgetError
from space.inventory import Inventory
from space.results.document import FrontDocument, FrontPoint
from tightfit.export.early import named_point


def select_point(
    document: FrontDocument, inventory: Inventory, point: str | None = None, budget: str | None = None
) -> FrontPoint:
    """Return the named point, the best one within a budget, or the recommended one.

    Raises:
        NotFoundError: no such point; the message names those there are.
        InfeasibleBudgetError: no point of the front fits.

    """
    if point is not None:
        return named_point(document, point)
    limit = document.budget_bytes if budget is None else parse_budget(budget).size_bytes(inventory)
    fitting = [p for p in document.front if p.size_bytes <= limit]
    if not fitting:
        smallest = min((p.size_bytes for p in document.front), default=0)
        raise InfeasibleBudgetError(
            f"No point of job {document.job} fits {limit:,} bytes; its smallest measured one has {smallest:,}. "
            "Give a larger --budget, or submit a job with the smaller one."
        )
    return min(fitting, key=lambda p: (p.kl_divergence, p.size_bytes))
