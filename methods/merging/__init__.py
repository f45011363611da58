"""The registry of merging operators: a literal tuple, in the order tables show them."""

from methods.merging import average, iso_c, task_arithmetic, ties, tsv_m
from methods.operator import Operator

MERGING: dict[str, Operator] = {
    operator.name: operator
    for operator in (
        average.OPERATOR,
        task_arithmetic.OPERATOR,
        ties.OPERATOR,
        ties.SUM,
        tsv_m.OPERATOR,
        iso_c.OPERATOR,
    )
}
