"""The registry of merging operators: a literal tuple, in the order tables show them."""

from methods.merging import (
    ace,
    adamerging,
    average,
    breadcrumbs,
    cart,
    consensus,
    dare,
    dare_ties,
    dc_merge,
    della,
    doge_ta,
    emr,
    fisher,
    iso_c,
    iso_cts,
    karcher,
    magmax,
    model_stock,
    pcb,
    regmean,
    regmean_pp,
    sce,
    star,
    tall_mask,
    task_arithmetic,
    ties,
    tsv_m,
    wudi,
)
from methods.operator import Operator

MERGING: dict[str, Operator] = {
    operator.name: operator
    for operator in (
        # data-free
        average.OPERATOR,
        task_arithmetic.OPERATOR,
        ties.OPERATOR,
        ties.SUM,
        dare.OPERATOR,
        dare_ties.OPERATOR,
        della.OPERATOR,
        breadcrumbs.OPERATOR,
        magmax.OPERATOR,
        sce.OPERATOR,
        pcb.OPERATOR,
        consensus.OPERATOR,
        consensus.TIES,
        model_stock.OPERATOR,
        karcher.OPERATOR,
        tsv_m.OPERATOR,
        iso_c.OPERATOR,
        iso_cts.OPERATOR,
        cart.OPERATOR,
        star.OPERATOR,
        dc_merge.OPERATOR,
        ace.OPERATOR,
        wudi.OPERATOR,
        wudi.CLOSED,
        doge_ta.OPERATOR,
        # calibration data
        regmean.OPERATOR,
        regmean_pp.OPERATOR,
        fisher.OPERATOR,
        # unlabelled test data
        adamerging.TASK,
        adamerging.LAYER,
        adamerging.PP_TASK,
        adamerging.PP_LAYER,
        # task id at inference
        emr.OPERATOR,
        tall_mask.OPERATOR,
    )
}
