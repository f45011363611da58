"""Tangent task arithmetic (Ortiz-Jimenez et al., 2023): train the first-order expansion at the pretrained weights.

    f_lin(x; theta) = f(x; theta_0) + J(x; theta_0) (theta - theta_0)

Every parameter of the image tower trains. The leaves are theta, not the update, as in the released code, so weight
decay pulls towards zero weights and not towards the pretrained ones. A task vector trained here must be evaluated in
the same expansion (`Tower.dual`); put into the ordinary model it is a different, usually worse, one.
"""

from dataclasses import replace

from methods.finetuning import nonlinear

FINETUNING = replace(
    nonlinear.FINETUNING,
    name="tta",
    title="Linearised fine-tuning (tangent task arithmetic)",
    paper="arXiv:2305.12827",
    formula="f(x; theta_0) + J(x; theta_0) tau, tau = theta - theta_0; trained and evaluated so, all parameters train",
    tangent=True,
)
