"""A front with its recovered points: each behind the point that it was made of, in the same bytes."""

from collections.abc import Iterable
from dataclasses import replace

from space.results.document import FrontDocument, FrontPoint


def with_recovered(document: FrontDocument, recovered: Iterable[FrontPoint]) -> FrontDocument:
    """Return a front with the recovered points of its trials, which are named after what was done to them.

    Where the recommended point was recovered, its best form is recommended instead.

    Args:
        document: as the search judged it.
        recovered: points in the order that they were made in; those of other trials than the front's are left out.

    """
    if document.measured_on != "held_out":  # they were judged on other text than these points
        return document
    made = list(recovered)
    points = list[FrontPoint]()
    for point in document.front:
        forms = list[FrontPoint]()
        for form in made:
            if form.trial == point.trial and form.recovered is not None:
                name = "-".join((point.point, *form.recovered.methods))
                again = sum(f.point == name or f.point.startswith(f"{name}-again") for f in forms)
                name += f"-again{again}" if again else ""
                forms.append(replace(form, point=name, recommended=False))
        best = min([point, *forms], key=lambda p: p.kl_divergence)
        points += [replace(p, recommended=point.recommended and p is best) for p in (point, *forms)]
    return replace(document, front=tuple(points))
